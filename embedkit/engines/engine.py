"""What every engine is to the job that it runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.base import EncoderClient
from embedkit.encoders.host_cores import HostWork
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.spec import ModelSpec
from embedkit.flow.map_splits import OfSplit, Result
from embedkit.flow.prepare import Job


class Engine(Protocol):
    """Where a job runs, as far as it must be known to settle it; Dataflow is one."""

    def read_model(self, config: JobConfig) -> ModelSpec:
        """Settles a model as the machines run it that the encoders will be on.

        Raises:
            ConfigError: The model cannot be used there.
            EncoderError: No such machine could be had in time.
        """
        ...


class Work(Protocol):
    """What is left of a job, its encoders ready."""

    @property
    def device(self) -> str:
        """Name of what the encoders run on."""
        ...

    def connect(self) -> EncoderClient:
        """Returns a client that reaches the encoders from this process."""
        ...

    def run(self, host: HostWork | None) -> None:
        """Embeds the splits.

        Args:
            host: What CPU cores have to do for them, as far as it is known.

        Raises:
            EmbedkitError: What stopped it; the same job resumes.
        """
        ...

    def documents(self) -> int:
        """Returns the documents that the version accounts for by now, as workers say."""
        ...

    def loads(self) -> list[EncoderLoad]:
        """Returns the last known load of every encoder process."""
        ...

    def last_loads(self) -> list[EncoderLoad]:
        """Returns the loads at the end of the work; a slow answer is waited for."""
        ...

    @property
    def worker_idle_share(self) -> float | None:
        """Share of their time that workers had no split; None where nobody measures it."""
        ...


class RunningEngine(Engine, Protocol):
    """An engine that this process drives from the plan to the last commit.

    Inside ``with``, it is joined to what it runs on.
    """

    def __enter__(self) -> Self:
        """Joins what it runs on, if that must be known first."""
        ...

    def __exit__(self, *error: object) -> None:
        """Leaves it."""
        ...

    def map_splits(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterable[Result]:
        """Maps a function over splits on the engine's workers, see ``MapSplits``."""
        ...

    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> AbstractContextManager[Work]:
        """Starts the encoders of a job, and ends them.

        Args:
            job: The job.
            splits: The splits that are left to do.
            committed: What earlier tries have committed.
        """
        ...
