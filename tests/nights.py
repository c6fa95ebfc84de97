"""Versions of a corpus that changes from night to night, with an encoder that costs nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from running import Dataset, SumClient, tiny_job

from embedkit.config import JobConfig
from embedkit.corpus.splits import Split
from embedkit.dataset.committed import CommitRecord, committed
from embedkit.encoders.kinds import read_model
from embedkit.engines.copying import copy_unchanged
from embedkit.engines.display import Nothing
from embedkit.engines.id_check import with_ids_checked
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.embed import embed_splits
from embedkit.flow.map_splits import map_in_threads
from embedkit.flow.prepare import Job, prepare
from embedkit.reports.account import RunAccount


@dataclass
class Night:
    """One run, as an engine does it.

    Attributes:
        job: The job, its ids checked.
        read: The splits that were read.
        encoded: Rows that were sent to the encoder.
        account: What the run says of itself.
    """

    job: Job
    read: tuple[str, ...]
    encoded: int
    account: RunAccount

    @property
    def dataset(self) -> Dataset:
        """The version."""
        return Dataset(Path(self.job.version.url))

    @property
    def records(self) -> dict[str, CommitRecord]:
        """Its commit records."""
        return committed(self.job.version)


def begin(
    config: JobConfig, dimension: int = 4, normalize: bool = False
) -> tuple[Job, tuple[Split, ...]]:
    """Settles a job over vectors of few components, and says what is to be copied or read."""
    model = read_model(config)
    vectors = replace(model.vectors, dimension=dimension, normalize=normalize)
    job = prepare(config, replace(model, vectors=vectors))
    return with_ids_checked(job, job.plan.splits, map_in_threads, Nothing())


def run(config: JobConfig, make_client: Callable[[], Any] = SumClient, **vectors: Any) -> Night:
    """Runs a job: copies, embeds what is left, completes the version."""
    job, splits = begin(config, **vectors)
    account = begin_account(committed(job.version).values())
    _, left = copy_unchanged(job, splits, map_in_threads, Nothing())
    client = make_client()
    for _ in embed_splits(left, job, client):
        pass
    encoded = sum(len(call) for call in client.calls)
    account = complete_version(job, account)
    return Night(job, tuple(split.split_id for split in left), encoded, account)


def nightly_job(model: str, corpus: Path, output: Any, **changes: Any) -> JobConfig:
    """A job whose files are a split each, of several blocks."""
    settings = {"id_column": "id", "split_bytes": 4000, "max_tokens": 24, "version": "v1"}
    return tiny_job(model, corpus, output, **(settings | changes))
