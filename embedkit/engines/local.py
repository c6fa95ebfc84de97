"""Beam and Ray on this machine."""

import logging
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager

import apache_beam as beam
import ray
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from ray.exceptions import RayError

from embedkit.actors import pool_use
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.id_looks import LookOnRay
from embedkit.actors.private_ray import CleanPath, on_loopback, own_token, read_token_again
from embedkit.actors.ray_watch import ray_watched
from embedkit.config import JobConfig
from embedkit.corpus.duplicates import Suspect
from embedkit.corpus.plan import Split
from embedkit.engines.beam import run_to_end
from embedkit.engines.ray_folder import ray_folder
from embedkit.engines.signals import handlers_kept
from embedkit.errors import ConfigError, ResumableError
from embedkit.errors.foreign import one_line
from embedkit.flow.check_ids import IdLook, SpreadLooks, look_in_threads
from embedkit.flow.prepare import Job
from embedkit.transforms.embed_corpus import EmbedBlocks
from embedkit.transforms.read import ReadCorpus
from embedkit.transforms.thread_runner import ThreadRunner

_LOG = logging.getLogger("embedkit")
_OBJECT_STORE_BYTES = 1 << 30
_PULSE_SECONDS = 0.5
_LOOKED_AT_HERE = 32 << 20
"""Bytes of files of which this process knows the ids sooner than others have started."""


@contextmanager
def ray_on_this_machine(namespace: str) -> Iterator[None]:
    """Starts a Ray of this process's own, and ends it; joins one that the process already has."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with ray_start_errors(), handlers_kept(), on_loopback(), own_token():
            ray.init(
                address="local",
                namespace=namespace,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                job_config=CleanPath(),
                _temp_dir=ray_folder(),
            )
        yield
    finally:
        ray.shutdown()
        read_token_again()


@contextmanager
def ray_start_errors() -> Iterator[None]:
    """Turns what a Ray says that cannot be started into one line.

    Raises:
        ConfigError: It found something wrong with this machine or its settings.
        ResumableError: Its processes did not come up in time, or ended.
    """
    try:
        yield
    except (OSError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"Ray could not be started ({one_line(error)}); mend that, or use --engine plain"
        ) from error
    except Exception as error:
        # Of a raylet that does not come up, Ray raises an exception of no kind of its own.
        if type(error) is not Exception and not isinstance(error, (RuntimeError, RayError)):
            raise
        raise ResumableError(
            f"Ray could not be started ({one_line(error)}); see that this machine has memory, "
            "room on its disk and processes to spare, then run the same command again"
        ) from error


@contextmanager
def encoder_pool(job: Job) -> Iterator[EncoderPool]:
    """Starts the job's encoders, one per GPU or one for the CPUs unless it says otherwise.

    They have yet to load the model then.
    """
    on_gpu = job.model.placement.device == "cuda"
    gpus = ray.cluster_resources().get("GPU", 0)
    per_gpu = job.config.encoders_per_gpu
    asked = job.config.encoders
    encoders = asked.most if asked else (max(1, int(gpus)) * per_gpu if on_gpu else 1)
    cpus = ray.cluster_resources().get("CPU", 1)
    pool = EncoderPool(
        job.model,
        encoders=encoders,
        namespace=ray.get_runtime_context().namespace,
        calls_in_flight=job.config.calls_in_flight,
        timeout=job.config.encoder_timeout,
        cpus=min(1.0, cpus / encoders) if on_gpu else max(1e-3, math.floor(cpus / encoders)),
        gpus=1.0 / per_gpu if on_gpu else 0.0,
    )
    with ray_watched(pool.name):
        try:
            yield pool
        finally:
            pool.stop()


def look_on_this_machine(config: JobConfig) -> SpreadLooks:
    """Returns what looks at the ids of splits: in this process where it is little work, else Ray's.

    Args:
        config: The job.
    """

    def look(
        look_at: Callable[[IdLook], list[Suspect]], looks: Sequence[IdLook]
    ) -> Iterable[list[Suspect]]:
        stored = sum(piece.stored for one in looks for piece in one.split.ranges)
        if stored <= _LOOKED_AT_HERE:
            return look_in_threads(look_at, looks)
        name = f"ids-{uuid.uuid4().hex}"
        on_ray = LookOnRay(config.max_lost_workers, config.encoder_wait, name)
        with ray_watched(name):
            try:
                looking = shared_unbounded_instance().submit(lambda: list(on_ray(look_at, looks)))
                while not wait([looking], timeout=_PULSE_SECONDS).done:
                    pool_use.go_on(name)
                found: list[list[Suspect]] = looking.result()
                return found
            finally:
                pool_use.end(name)

    return look


def run_pipeline(job: Job, pool: EncoderPool, splits: tuple[Split, ...]) -> None:
    """Runs the flow over some splits as a Beam pipeline on threads of this process.

    Args:
        job: The job.
        pool: Its encoders.
        splits: The splits that are left to do.

    Raises:
        EmbedkitError: What stopped it, as raised inside the pipeline.
    """
    workers = job.config.workers or len(pool.connection.names) + 2
    options = PipelineOptions(flags=[], pickle_library="cloudpickle")
    pipeline = beam.Pipeline(runner=ThreadRunner(min(workers, len(splits))), options=options)
    blocks = pipeline | "ReadCorpus" >> ReadCorpus(
        corpus=job.config,
        plan=job.plan.with_splits(splits),
        make_chunker=job.make_chunker,
        version=job.version,
    )
    _ = blocks | "EmbedBlocks" >> EmbedBlocks(
        tokenizer=job.model.tokenizer,
        connect=pool.connection,
        call_tokens=job.config.call_tokens,
        mixed_calls=job.model.mixed_calls,
        version=job.version,
        options=job.options,
    )
    # A worker may be busy with other things for long when the pool is lost.
    running = shared_unbounded_instance().submit(run_to_end, pipeline)
    while not wait([running], timeout=_PULSE_SECONDS).done:
        pool.go_on()
    running.result()
