"""The flow as plain functions in this process, without Beam or Ray."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.canary import canaries_for, wants_canaries
from embedkit.encoders.host_cores import HostWork
from embedkit.encoders.kinds import load_encoder, read_job_model
from embedkit.encoders.local_client import LocalClient, LocalConnection
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.phases import phases_to
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.display import LOADING, Display
from embedkit.flow.map_splits import OfSplit, Result, map_in_threads
from embedkit.flow.prepare import Job
from embedkit.flow.tally import Tally, documents_by_split


class PlainEngine:
    """Embeds one split after the other in this process.

    Args:
        display: Shows the phases of a start.
    """

    def __init__(self, display: Display) -> None:
        self._display = display

    def __enter__(self) -> Self:
        """There is nothing to join."""
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to leave."""

    def read_model(self, config: JobConfig) -> ModelSpec:
        """Settles a model for this machine."""
        return read_job_model(config, config)

    def map_splits(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterable[Result]:
        """Maps a function over splits in this process, a few at a time."""
        return map_in_threads(function, items)

    @contextmanager
    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> "Iterator[PlainWork]":
        """Loads the model in this process."""
        self._display.phase(LOADING)
        with phases_to(self._display.phase):
            client = LocalConnection(job.model)()
            if wants_canaries(job.model, job.config.canaries):
                canaries = canaries_for(job.model, job.config.canaries, load_encoder)
                if canaries is not None:
                    canaries.check(client.encoder)
        yield PlainWork(job, splits, client, Tally(documents_by_split(committed.values())))


@dataclass
class PlainWork:
    """What is left of a job, its encoder loaded; see ``Work``."""

    job: Job
    splits: Sequence[Split]
    client: LocalClient
    tally: Tally
    worker_idle_share: float | None = None

    @property
    def device(self) -> str:
        """Name of what the encoder runs on."""
        return self.client.encoder.device

    def connect(self) -> LocalClient:
        """Returns the client of the encoder."""
        return self.client

    def run(self, host: HostWork | None) -> None:
        """Embeds the splits, one after the other."""
        from embedkit.flow.embed import embed_splits

        for _ in embed_splits(self.splits, self.job, self.client, self.tally.on_commit):
            pass

    def documents(self) -> int:
        """Returns the documents that the version accounts for by now."""
        return self.tally.documents

    def loads(self) -> list[EncoderLoad]:
        """Returns the load of the encoder."""
        return self.client.loads()

    def last_loads(self) -> list[EncoderLoad]:
        """Returns the loads at the end of the work."""
        return self.client.loads()
