"""JobConfig -> RunResult, whatever the engine."""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from embedkit.completion import Figures, RunResult, complete, result_of_complete
from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.commit import CommitRecord, committed
from embedkit.encoders.local_client import LocalConnection
from embedkit.encoders.meter import EncoderLoad
from embedkit.engines.estimate import expected_work
from embedkit.engines.progress import Display, Nothing, Watch, shown
from embedkit.flow import embed_split
from embedkit.job import Job, prepare
from embedkit.tokens.tokenization import load_tokenizer

_LOG = logging.getLogger("embedkit")


def run_job(config: JobConfig, display: Display | None = None) -> RunResult:
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
    if config.engine == "ray":
        # Ray takes seconds to join, and its nodes know what the model will run on.
        from embedkit.engines.ray_cluster import ray_on_cluster, settle_model

        with ray_on_cluster(config.ray_address, "embedkit"):
            return _run(prepare(config, settle_model(config)), started, display or Nothing())
    return _run(prepare(config), started, display or Nothing())


def _run(job: Job, started: float, display: Display) -> RunResult:
    if job.version.is_complete():
        return result_of_complete(job.version)
    before = committed(job.version)
    splits = tuple(
        split for split in job.plan.splits if not job.version.split_is_done(split.split_id)
    )
    _LOG.info(
        "version %s: %d of %d splits to do, %d rows committed before",
        job.version.name,
        len(splits),
        len(job.plan.splits),
        sum(record.rows for record in before.values()),
    )
    loads: tuple[EncoderLoad, ...] = ()
    device = job.model.device
    if splits:
        loads, device = _EMBED[job.config.engine](job, splits, before, display)
    return complete(job, before, Figures(loads, device, started))


class _Committed:
    """Counts committed documents, reading each commit record once."""

    def __init__(self, job: Job, before: dict[str, CommitRecord]) -> None:
        self._job = job
        self._records = dict(before)

    def __call__(self) -> int:
        self._records = committed(self._job.version, self._records)
        return sum(record.documents for record in self._records.values())


def _watch(
    job: Job,
    splits: tuple[Split, ...],
    before: dict[str, CommitRecord],
    loads: Callable[[], list[EncoderLoad]],
) -> Watch:
    return Watch(loads, _Committed(job, before), expected_work(job, splits, before))


def embed_plainly(
    job: Job, splits: tuple[Split, ...], before: dict[str, CommitRecord], display: Display
) -> tuple[tuple[EncoderLoad, ...], str]:
    """Embeds splits one after the other in this process, without Beam or Ray."""
    client = LocalConnection(job.model)()
    tokenizer = load_tokenizer(job.model.tokenizer)
    chunker = job.make_chunker() if job.make_chunker else None
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
            ):
                pass
    return tuple(client.loads()), client.encoder.device


def embed_locally(
    job: Job, splits: tuple[Split, ...], before: dict[str, CommitRecord], display: Display
) -> tuple[tuple[EncoderLoad, ...], str]:
    """Embeds splits with Beam and Ray on this machine."""
    # Beam and Ray take seconds to load, which a finished job need not wait for.
    from embedkit.engines.local import encoder_pool, ray_on_this_machine, run_pipeline

    with ExitStack() as stack:
        stack.enter_context(ray_on_this_machine(f"embedkit-{job.version.name}"))
        pool = stack.enter_context(encoder_pool(job))
        _, device = pool.wait_until_ready()
        with shown(_watch(job, splits, before, pool.loads), display):
            run_pipeline(job, pool, splits)
        return tuple(pool.loads()), device


def embed_on_cluster(
    job: Job, splits: tuple[Split, ...], before: dict[str, CommitRecord], display: Display
) -> tuple[tuple[EncoderLoad, ...], str]:
    """Embeds splits with Beam and Ray on the Ray cluster that this process has joined."""
    from embedkit.engines.ray_cluster import cluster_run

    with cluster_run(job, splits) as cluster:
        _, device = cluster.pool.wait_until_ready()
        with shown(_watch(job, splits, before, cluster.pool.loads), display):
            cluster.foreman.run()
        _LOG.info("workers had no split for %.1f %% of their time", 100 * cluster.state.idle_share)
        return tuple(cluster.pool.loads()), device


_EMBED = {"plain": embed_plainly, "local": embed_locally, "ray": embed_on_cluster}
