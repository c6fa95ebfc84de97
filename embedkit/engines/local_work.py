"""What is left of a job, done by a Beam pipeline on threads of this process and encoders in Ray."""

import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import apache_beam as beam
import ray
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

from embedkit.actors import pool_use
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.map_on_ray import MapOnRay
from embedkit.actors.ray_watch import ray_watched
from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.base import EncoderClient
from embedkit.encoders.fitting import Fitting, fit_machine, workers_on_machine
from embedkit.encoders.host_cores import HostWork, host_cores
from embedkit.encoders.meter import EncoderLoad
from embedkit.engines.beam import run_to_end
from embedkit.engines.display import Display
from embedkit.engines.ray_encoders import loaded, ray_encoders
from embedkit.flow.map_splits import OfSplit, Result
from embedkit.flow.prepare import Job
from embedkit.flow.tally import Tally
from embedkit.transforms.embed import EmbedBlocks
from embedkit.transforms.read import ReadCorpus
from embedkit.transforms.thread_runner import ThreadRunner

_PULSE_SECONDS = 0.5


@dataclass
class LocalWork:
    """What is left of a job, its encoders ready; see ``Work``."""

    job: Job
    splits: Sequence[Split]
    pool: EncoderPool
    tally: Tally
    fitting: Fitting
    cpus: float
    device: str
    worker_idle_share: float | None = None

    def connect(self) -> EncoderClient:
        """Returns a client that reaches the encoders."""
        return self.pool.connection()

    def run(self, host: HostWork | None) -> None:
        """Embeds the splits."""
        job = self.job
        cores = host_cores(job.model, self.device, host)
        workers = workers_on_machine(job.config, self.fitting, cores, self.cpus)
        options = PipelineOptions(flags=[], pickle_library="cloudpickle")
        runner = ThreadRunner(min(workers, len(self.splits)))
        pipeline = beam.Pipeline(runner=runner, options=options)
        plan = job.plan.with_splits(self.splits)
        read = ReadCorpus(job.config, plan, job.make_chunker, job.version)
        embed = EmbedBlocks(job, self.pool.connection, job.config.call_tokens, self.tally.on_commit)
        _ = pipeline | "ReadCorpus" >> read | "EmbedBlocks" >> embed
        # A worker may be busy with other things for long when the pool is lost.
        running = shared_unbounded_instance().submit(run_to_end, pipeline)
        while not wait([running], timeout=_PULSE_SECONDS).done:
            self.pool.go_on()
        running.result()

    def documents(self) -> int:
        """Returns the documents that the version accounts for by now."""
        return self.tally.documents

    def loads(self) -> list[EncoderLoad]:
        """Returns the last known load of every encoder process."""
        return self.pool.loads()

    def last_loads(self) -> list[EncoderLoad]:
        """Returns the loads at the end of the work."""
        return self.pool.last_loads()


@contextmanager
def local_work(
    job: Job, splits: Sequence[Split], documents: Mapping[str, int], display: Display
) -> Iterator[LocalWork]:
    """Starts the encoders in this process's Ray, and waits until they have loaded the model.

    Args:
        job: The job.
        splits: The splits that are left to do.
        documents: Documents that earlier tries have committed, by split.
        display: Shows the phases.
    """
    resources = ray.cluster_resources()
    fitting = fit_machine(job.config, job.model.placement, resources)
    with ray_encoders(job, fitting) as pool, ray_watched(pool.name):
        tally, cpus = _TallyHere(documents), resources.get("CPU", 1)
        yield LocalWork(job, splits, pool, tally, fitting, cpus, loaded(pool, display))


def map_in_ray(
    config: JobConfig, function: Callable[[OfSplit], Result], items: Sequence[OfSplit]
) -> list[Result]:
    """Maps a function over splits on all CPUs of this process's Ray, and ends when that is lost.

    Args:
        config: The job.
        function: Picklable, as its results are.
        items: What it is given, each with its ``split``.
    """
    name = f"splits-{uuid.uuid4().hex}"
    on_ray = MapOnRay(config.max_lost_workers, config.encoder_wait, name)
    with ray_watched(name):
        try:
            mapping = shared_unbounded_instance().submit(lambda: list(on_ray(function, items)))
            while not wait([mapping], timeout=_PULSE_SECONDS).done:
                pool_use.go_on(name)
            found: list[Result] = mapping.result()
            return found
        finally:
            pool_use.end(name)


class _TallyHere(Tally):
    """A tally whose copies in this process, such as those that Beam makes, are itself."""

    def __init__(self, committed: Mapping[str, int]) -> None:
        super().__init__(committed)
        self._key = secrets.token_hex(8)
        _tallies[self._key] = self

    def __reduce__(self) -> tuple[object, ...]:
        """Travels by its key."""
        return _tally, (self._key,)


_tallies: WeakValueDictionary[str, _TallyHere] = WeakValueDictionary()


def _tally(key: str) -> _TallyHere:
    return _tallies[key]
