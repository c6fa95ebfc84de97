"""JobConfig -> RunAccount, whatever the engine."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.commit import CommitRecord, committed, done_splits
from embedkit.dataset.device import record_device
from embedkit.encoders.hardware import processor_name
from embedkit.encoders.local_client import LocalConnection
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.phases import phases_to
from embedkit.engines.estimate import expected_work
from embedkit.engines.id_check import with_ids_checked
from embedkit.engines.progress import Display, Nothing, Watch, phases_shown, shown
from embedkit.engines.ray_output import ray_says_in_the_log
from embedkit.flow.account import with_loads
from embedkit.flow.check_ids import look_in_threads
from embedkit.flow.complete import account_of_complete, begin_account, complete_version
from embedkit.flow.embed import embed_split
from embedkit.flow.prepare import Job, prepare
from embedkit.reports.account import RunAccount
from embedkit.tokens.tokenization import load_tokenizer

if TYPE_CHECKING:
    # Ray takes seconds to load, which a finished job need not wait for.
    from embedkit.actors.encoder_pool import EncoderPool

_LOG = logging.getLogger("embedkit")
# The report counts what encoders say at the end, so a slow answer is worth waiting for.
_LAST_WORD_SECONDS = 60.0
_LOADING = "loading the model"


def run_job(config: JobConfig, display: Display | None = None) -> RunAccount:
    """Runs a job to its complete version, or finds that it is complete already.

    Args:
        config: The job.
        display: Shows progress; nothing is shown without one.

    Raises:
        ConfigError: A setting, the model or the output cannot be used.
        InputError: An input cannot be used.
        ResumableError: The run stopped; the same job resumes it.
    """
    started = time.time()
    display = display or Nothing()
    with ray_says_in_the_log(), display:
        if config.engine == "ray":
            # Ray takes seconds to join, and its nodes know what the model will run on.
            from embedkit.engines.ray_cluster import settle_model
            from embedkit.engines.ray_join import ray_on_cluster

            display.phase("joining the Ray cluster")
            with ray_on_cluster(config.ray_address, "embedkit"):
                return _run(prepare(config, settle_model(config)), started, display)
        return _run(prepare(config), started, display)


def _run(job: Job, started: float, display: Display) -> RunAccount:
    if job.version.is_complete():
        return account_of_complete(job)
    before = committed(job.version)
    done = done_splits(job.version, before)
    splits = tuple(split for split in job.plan.splits if split.split_id not in done)
    _LOG.info(
        "version %s: %d of %d splits to do, %d rows committed before",
        job.version.name,
        len(splits),
        len(job.plan.splits),
        sum(record.rows for record in before.values()),
    )
    on_cpu = job.model.placement.device == "cpu"
    account = replace(begin_account(before.values()), started=started)
    if splits:
        account = _EMBED[job.config.engine](job, splits, before, display, account)
    else:
        account = with_loads(
            account, (), processor_name() if on_cpu else job.model.placement.device
        )
    display.phase("completing the version")
    return complete_version(job, account)


class _Committed:
    """Counts committed documents, reading each commit record once; used by several threads."""

    def __init__(self, job: Job, before: dict[str, CommitRecord]) -> None:
        self._job = job
        self._before = before
        self._records = dict(before)
        self._reading = threading.Lock()

    def __call__(self) -> int:
        """Returns all documents that the version accounts for."""
        return sum(record.documents for record in self._read().values())

    def of_this_run(self) -> tuple[int, int]:
        """Returns the documents that this run has committed, and the rejects among them."""
        fresh = [one for name, one in self._read().items() if name not in self._before]
        return sum(one.documents for one in fresh), sum(one.rejects for one in fresh)

    def _read(self) -> dict[str, CommitRecord]:
        with self._reading:
            self._records = committed(self._job.version, self._records)
            return self._records


def _watch(
    job: Job,
    splits: tuple[Split, ...],
    before: dict[str, CommitRecord],
    loads: Callable[[], list[EncoderLoad]],
    counted: _Committed | None = None,
) -> Watch:
    counted = counted or _Committed(job, before)
    return Watch(loads, counted, expected_work(job, splits, before))


def embed_plainly(
    job: Job,
    splits: tuple[Split, ...],
    before: dict[str, CommitRecord],
    display: Display,
    account: RunAccount,
) -> RunAccount:
    """Embeds splits one after the other in this process, without Beam or Ray."""
    job, splits = with_ids_checked(job, splits, look_in_threads, display)
    display.phase(_LOADING)
    with phases_to(display.phase):
        client = LocalConnection(job.model)()
    tokenizer = load_tokenizer(job.model.tokenizer)
    chunker = job.make_chunker() if job.make_chunker else None
    record_device(job.version, client.encoder.device)
    with shown(_watch(job, splits, before, client.loads), display):
        for split in splits:
            for _ in embed_split(
                split,
                job.plan,
                job.config,
                chunker,
                tokenizer,
                client,
                job.config.call_tokens,
                job.version,
                job.options,
                job.model.mixed_calls,
            ):
                pass
    return with_loads(account, client.loads(), client.encoder.device)


def _loaded(pool: "EncoderPool", display: Display) -> str:
    """Waits until a pool's encoders have loaded the model, and returns the device's name."""
    display.phase(_LOADING)
    with phases_shown(pool.phase, display):
        _, device = pool.wait_until_ready()
    return device


def embed_locally(
    job: Job,
    splits: tuple[Split, ...],
    before: dict[str, CommitRecord],
    display: Display,
    account: RunAccount,
) -> RunAccount:
    """Embeds splits with Beam and Ray on this machine."""
    # Beam and Ray take seconds to load, which a finished job need not wait for.
    from embedkit.engines.local import (
        encoder_pool,
        look_on_this_machine,
        ray_on_this_machine,
        run_pipeline,
    )

    with ExitStack() as stack:
        display.phase("starting Ray")
        stack.enter_context(ray_on_this_machine(f"embedkit-{job.version.name}"))
        job, splits = with_ids_checked(job, splits, look_on_this_machine(job.config), display)
        pool = stack.enter_context(encoder_pool(job))
        device = _loaded(pool, display)
        record_device(job.version, device)
        with shown(_watch(job, splits, before, pool.loads), display):
            run_pipeline(job, pool, splits)
        return with_loads(account, pool.loads(_LAST_WORD_SECONDS), device)


def embed_on_cluster(
    job: Job,
    splits: tuple[Split, ...],
    before: dict[str, CommitRecord],
    display: Display,
    account: RunAccount,
) -> RunAccount:
    """Embeds splits with Beam and Ray on the Ray cluster that this process has joined."""
    from embedkit.actors.id_looks import LookOnRay
    from embedkit.engines.ray_cluster import cluster_run

    look = LookOnRay(job.config.max_lost_workers, job.config.encoder_wait)
    job, splits = with_ids_checked(job, splits, look, display)
    counted = _Committed(job, before)
    with cluster_run(job, splits, counted.of_this_run) as cluster:
        device = _loaded(cluster.pool, display)
        record_device(job.version, device)
        with shown(_watch(job, splits, before, cluster.pool.loads, counted), display):
            cluster.supervisor.run()
        idle = cluster.state.idle_share
        _LOG.info("workers had no split for %.1f %% of their time", 100 * idle)
        account = replace(account, worker_idle_share=idle)
        return with_loads(account, cluster.pool.loads(_LAST_WORD_SECONDS), device)


_EMBED = {"plain": embed_plainly, "local": embed_locally, "ray": embed_on_cluster}
