"""Beam and Ray on a cluster: workers and encoders spread over its nodes.

Each worker is a Beam pipeline of its own with one SDK harness, a Ray actor, and all of them take
their splits from one queue. So a fast worker takes more than a slow one, a lost worker concerns no
other, and workers can be added while the run goes on.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import ray
from ray.exceptions import GetTimeoutError, RayError

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.map_on_ray import MapOnRay
from embedkit.actors.split_queue import RunQueue
from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.base import EncoderClient
from embedkit.encoders.fitting import fit_cluster, runs_on_gpu
from embedkit.encoders.host_cores import HostWork, host_cores
from embedkit.encoders.kinds import read_job_model
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.display import Display
from embedkit.engines.ray_encoders import loaded, ray_encoders
from embedkit.engines.ray_join import alive_nodes, ray_on_cluster
from embedkit.engines.ray_supervisor import Supervisor
from embedkit.errors import EncoderError, error_in_traceback
from embedkit.flow.map_splits import OfSplit, Result
from embedkit.flow.prepare import Job
from embedkit.flow.tally import documents_by_split

_LOG = logging.getLogger("embedkit")


class RayCluster:
    """Embeds splits with Beam and Ray on the nodes of a Ray cluster.

    Args:
        config: The job.
        display: Shows the phases of a start.
    """

    def __init__(self, config: JobConfig, display: Display) -> None:
        self._config = config
        self._display = display
        self._cluster = ExitStack()

    def __enter__(self) -> Self:
        """Joins the cluster, whose nodes know what the model will run on.

        Raises:
            ConfigError: There is no cluster at the address.
        """
        self._display.phase("joining the Ray cluster")
        self._cluster.enter_context(ray_on_cluster(self._config.ray_address, "embedkit"))
        return self

    def __exit__(self, *error: Any) -> None:
        """Leaves the cluster."""
        self._cluster.__exit__(*error)

    def read_model(self, config: JobConfig) -> ModelSpec:
        """Reads the model on a node of the kind that will run it: the driver's may have no GPU.

        Raises:
            ConfigError: The model cannot be used there.
            EncoderError: No such node could be had in time.
        """
        on_gpu = runs_on_gpu(config, ray.cluster_resources())
        options = {"num_gpus": 1.0 / config.encoders_per_gpu} if on_gpu else {"num_cpus": 0}
        found = ray.remote(read_job_model).options(**options).remote(config, config)
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

    def map_splits(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterable[Result]:
        """Maps a function over splits on all CPUs of the cluster."""
        return MapOnRay(self._config.max_lost_workers, self._config.encoder_wait)(function, items)

    @contextmanager
    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> "Iterator[_ClusterWork]":
        """Starts the encoders and the queue, and waits for the encoders that the job needs."""
        nodes = [node["Resources"] for node in alive_nodes()]
        fitting = fit_cluster(job.config, job.model.placement, nodes)
        documents = documents_by_split(committed.values())
        with ray_encoders(job, fitting) as pool, run_queue(splits, documents) as queue:
            device = loaded(pool, self._display)
            supervisor = Supervisor(job, fitting, pool, queue)
            yield _ClusterWork(job, pool, supervisor, device)
            idle = supervisor.state.idle_share
            _LOG.info("workers had no split for %.1f %% of their time", 100 * idle)


@dataclass
class _ClusterWork:
    job: Job
    pool: EncoderPool
    supervisor: Supervisor
    device: str

    def connect(self) -> EncoderClient:
        return self.pool.connection()

    def run(self, host: HostWork | None) -> None:
        self.supervisor.run(host_cores(self.job.model, self.device, host))

    def documents(self) -> int:
        return self.supervisor.state.documents

    def loads(self) -> list[EncoderLoad]:
        return self.pool.loads()

    def last_loads(self) -> list[EncoderLoad]:
        return self.pool.last_loads()

    @property
    def worker_idle_share(self) -> float | None:
        return self.supervisor.state.idle_share


@contextmanager
def run_queue(splits: Sequence[Split], documents: Mapping[str, int]) -> Iterator[RunQueue]:
    """Starts the queue of a run's splits, and ends it."""
    queue = RunQueue(tuple(splits), ray.get_runtime_context().namespace, documents)
    try:
        yield queue
    finally:
        queue.stop()
