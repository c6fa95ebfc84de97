"""Beam and Ray on a cluster: workers and encoders spread over its nodes.

Each worker is a Beam pipeline of its own with one SDK harness, a Ray actor, and all of them take
their splits from one queue. So a fast worker takes more than a slow one, a lost worker concerns no
other, and workers can be added while the run goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError, RayError

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.split_queue import QueueState, RunQueue
from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.fitting import Fitting, fit
from embedkit.encoders.kinds import read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.ray_join import alive_nodes
from embedkit.engines.ray_supervisor import Supervisor
from embedkit.errors import EncoderError, error_in_traceback
from embedkit.flow.prepare import Job


def settle_model(config: JobConfig) -> ModelSpec:
    """Reads the model on a node of the kind that will run it, as the driver's may have no GPU.

    Raises:
        ConfigError: The model cannot be used there.
        EncoderError: No such node could be had in time.
    """
    on_gpu = config.device == "cuda" or (
        config.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    options = {"num_gpus": 1.0 / config.encoders_per_gpu} if on_gpu else {"num_cpus": 0}
    found = ray.remote(read_model).options(**options).remote(config)
    try:
        model: ModelSpec = ray.get(found, timeout=config.encoder_timeout)
    except GetTimeoutError as error:
        raise EncoderError(
            f"no node with {'a GPU' if on_gpu else 'CPUs'} could be had in "
            f"{config.encoder_timeout:.0f} s; give the cluster room, or take another --device"
        ) from error
    except RayError as error:
        known = error_in_traceback(str(error))
        raise known or EncoderError(f"the model could not be read: {error}") from error
    return model


@contextmanager
def encoders_on_cluster(job: Job, fitting: Fitting) -> Iterator[EncoderPool]:
    """Starts the job's encoders and waits for those that it needs at least."""
    pool = EncoderPool(
        job.model.with_threads(fitting.threads),
        encoders=fitting.encoders.most,
        namespace=ray.get_runtime_context().namespace,
        calls_in_flight=job.config.calls_in_flight,
        timeout=job.config.encoder_timeout,
        cpus=fitting.encoder_cpus,
        gpus=fitting.encoder_gpus,
        least=fitting.encoders.least,
        wait=job.config.encoder_wait,
    )
    try:
        yield pool
    finally:
        pool.stop()


@contextmanager
def run_queue(splits: tuple[Split, ...]) -> Iterator[RunQueue]:
    """Starts the queue of a run's splits, and ends it."""
    queue = RunQueue(splits, ray.get_runtime_context().namespace)
    try:
        yield queue
    finally:
        queue.stop()


@dataclass
class ClusterRun:
    """A run on a cluster: its encoders and, once it works, its workers.

    Attributes:
        pool: The encoders.
        supervisor: Keeps the workers at work.
    """

    pool: EncoderPool
    supervisor: Supervisor

    @property
    def state(self) -> QueueState:
        """How far the queue was when it was last looked at."""
        return self.supervisor.state


@contextmanager
def cluster_run(
    job: Job, splits: tuple[Split, ...], counts: Callable[[], tuple[int, int]]
) -> Iterator[ClusterRun]:
    """Starts what a run on a cluster needs, and ends it.

    Args:
        job: The job.
        splits: The splits that are left to do.
        counts: Returns the documents and rejects that the run has committed so far.
    """
    nodes = [node["Resources"] for node in alive_nodes()]
    fitting = fit(job.config, job.model.placement.device, nodes)
    with ExitStack() as stack:
        pool = stack.enter_context(encoders_on_cluster(job, fitting))
        queue = stack.enter_context(run_queue(splits))
        pool.wait_until_ready()
        yield ClusterRun(pool, Supervisor(job, fitting, pool, queue, counts))
