"""Runs that cost nothing: a model that is a table, an engine without a start, inputs in memory."""

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Semaphore
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from attempts import StoreInTurns
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset import version
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.stores import open_store
from embedkit.encoders.local_client import LocalClient, SharedEncoder
from embedkit.encoders.spec import ModelIdentity, ModelSpec, Placement, VectorSpec
from embedkit.engines import run
from embedkit.engines.display import Nothing
from embedkit.engines.plain import PlainEngine, PlainWork
from embedkit.flow import beats, complete
from embedkit.flow.prepare import Job
from embedkit.flow.tally import Tally, documents_by_split
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.vectors import TokenBatch

DIMENSION = 4
WORDS = tuple(f"w{number}" for number in range(40))
NUDGE = np.float32(1e-6)
"""What the first component of one attempt's vectors is more than of the attempt's before."""


class CostlessSpec(ModelSpec):
    """A model of no kind that is registered."""

    kind: ClassVar[str] = "costless"


def costless_model(folder: Path, weights: str = "a") -> CostlessSpec:
    """A model over ``WORDS``, of which nothing but its tokenizer is on disk.

    Args:
        folder: Where its tokenizer goes.
        weights: Names its weights, for those of another recipe.
    """
    vocabulary = {word: number for number, word in enumerate(("[UNK]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return CostlessSpec(
        identity=ModelIdentity(str(folder), "costless", None, (), weights, "c", "t"),
        tokenizer=TokenizerSpec(str(folder), 8, bare=True, max_content_tokens=8),
        vectors=VectorSpec(DIMENSION, normalize=True, metric="cosine"),
        placement=Placement("numpy", "cpu", "float32", 64),
    )


_TABLE = np.random.default_rng(0).standard_normal((len(WORDS) + 1, DIMENSION))


def vector_of(ids: Sequence[int], nudge: int) -> NDArray[np.float32]:
    """The vector of a text, in the last digits that of one attempt alone."""
    places = np.arange(1, len(ids) + 1)[:, None]
    total = (_TABLE[np.asarray(ids, dtype=np.int64)] * places).sum(axis=0)
    vector = (total / np.linalg.norm(total)).astype(np.float32)
    vector[0] += np.float32(nudge) * NUDGE
    return vector


class CostlessEncoder:
    """Looks texts up, and remembers which.

    Args:
        nudge: Which attempt's vectors it makes.
    """

    device = "costless"
    device_seconds = None

    def __init__(self, nudge: int = 0) -> None:
        self._nudge = nudge
        self.asked: list[tuple[int, ...]] = []
        self.computed_tokens = 0

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows, each by itself."""
        ends = batch.offsets
        rows = [
            tuple(batch.input_ids[start:end].tolist()) for start, end in itertools.pairwise(ends)
        ]
        self.asked += rows
        self.computed_tokens += len(batch.input_ids)
        return np.array([vector_of(row, self._nudge) for row in rows], dtype=np.float32)


class CostlessEngine(PlainEngine):
    """Runs a job in the thread that asks for it, with an encoder that costs nothing.

    Args:
        model: The model.
        nudge: Which attempt it is, see ``CostlessEncoder``.
    """

    def __init__(self, model: ModelSpec, nudge: int = 0) -> None:
        super().__init__(Nothing())
        self._model = model
        self.encoder = CostlessEncoder(nudge)

    def __enter__(self) -> Self:
        return self

    def read_model(self, config: JobConfig) -> ModelSpec:
        """The model that was given."""
        return self._model

    @contextmanager
    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> Iterator[PlainWork]:
        """There is nothing to load."""
        client = LocalClient(SharedEncoder(self.encoder, Semaphore()))
        yield PlainWork(job, splits, client, Tally(documents_by_split(committed.values())))


class HereExecutor:
    """Stands in the place of a ``ThreadPoolExecutor``: calls at once, in the thread that asks."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *args: object, **named: object) -> Future[Any]:
        """Calls, and keeps what came of it."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **named))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)
        return future

    def map(self, call: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        """Calls with each item, when its result is asked for."""
        return map(call, *items)

    def shutdown(self, *_: object, **__: object) -> None:
        """There is nothing to end."""


def make_costless(
    patch: pytest.MonkeyPatch, engine: Callable[[], CostlessEngine], reports: bool = False
) -> None:
    """Lets every run of this process have such an engine, and no threads but its own.

    Args:
        patch: Undoes it.
        engine: Returns the engine of the run that begins in this thread.
        reports: Whether reports are written, which take longer than all else.
    """
    for name, module in list(sys.modules.items()):
        for pool in ("ThreadPoolExecutor", "GeneratorThreads"):
            if name.startswith("embedkit.") and hasattr(module, pool):
                patch.setattr(module, pool, HereExecutor)
    patch.setattr(version, "open_store", lambda root: StoreInTurns(open_store(root)))
    patch.setattr(run, "_engine", lambda config, display: engine())
    # Their thread would do something at a moment of its own.
    patch.setattr(beats.Beats, "go_on", lambda self: None)
    if not reports:
        patch.setattr(complete, "write_report", lambda *_: None)


_BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class MemoryFiles:
    """Input files in memory, whose times are the same whenever the test is run.

    Attributes:
        folder: Where they are.
        changes: How often any of them was written.
    """

    folder: str
    changes: int = 0

    def write(self, name: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Writes a file of JSONL, as a later one than all before."""
        self.changes += 1
        lines = "".join(json.dumps(one) + "\n" for one in documents)
        self._put(f"{self.folder}/{name}", lines.encode(), self.changes)

    def remove(self, name: str) -> None:
        """Removes a file."""
        MemoryFileSystem().rm_file(f"{self.folder}/{name}")

    def rename(self, name: str, other: str) -> None:
        """Moves a file with its time."""
        MemoryFileSystem.store[f"{self.folder}/{other}"] = MemoryFileSystem.store.pop(
            f"{self.folder}/{name}"
        )

    def copied_to(self, folder: str) -> "MemoryFiles":
        """Copies all files with their times."""
        prefix = f"{self.folder}/"
        found = [(path, file) for path, file in MemoryFileSystem.store.items()]
        for path, file in found:
            if path.startswith(prefix):
                copy = f"{folder}/{path.removeprefix(prefix)}"
                MemoryFileSystem().pipe_file(copy, file.getvalue())
                MemoryFileSystem.store[copy].created = file.created
        return MemoryFiles(folder, self.changes)

    def _put(self, path: str, data: bytes, time: int) -> None:
        MemoryFileSystem().pipe_file(path, data)
        MemoryFileSystem.store[path].created = _BEGINNING + timedelta(seconds=time)
