"""What an index of any library offers, and how one is made of a version."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.search.export.ids import IdsWriter, digests_of
from embedkit.search.export.source import HashSample, Source

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Labels of the nearest entries of each query, best first, -1 where there are fewer, and their
scores, higher is nearer; both of shape (queries, k)."""


class VectorIndex(Protocol):
    """An index in memory, whose entries have labels from 0.

    Attributes:
        efforts: How much may be spent on a query, ascending; one where there is no choice.
        effort: How much is spent.
        trained_on: How many rows it learns from before any are added; 0 where it does not.
        can_remove: Whether entries can be removed.
    """

    efforts: Sequence[int]
    effort: int
    trained_on: int
    can_remove: bool

    @abstractmethod
    def train(self, vectors: NDArray[np.float32]) -> None:
        """Learns from some rows, shape (rows, dimension)."""

    @abstractmethod
    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds entries, shape (entries,) and (entries, dimension)."""

    @abstractmethod
    def remove(self, labels: NDArray[np.int64]) -> None:
        """Removes entries."""

    @abstractmethod
    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Finds the entries nearest to each query, shape (queries, dimension)."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Writes it into a folder."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Returns what the library was told, as JSON values."""


class IndexKind(Protocol):
    """A library's kind of index.

    Attributes:
        metrics: The metrics that it knows.
    """

    metrics: Sequence[str]

    @abstractmethod
    def new(self, source: Source) -> VectorIndex:
        """Returns an empty index for a version."""

    @abstractmethod
    def load(self, folder: Path, metric: str, settings: dict[str, Any]) -> VectorIndex:
        """Opens an index.

        Args:
            folder: Its folder.
            metric: How its vectors are compared.
            settings: What it was told.

        Raises:
            IntegrityError: It is gone or damaged.
        """

    @abstractmethod
    def outgrown(self, settings: dict[str, Any], rows: int) -> str | None:
        """Says why an index of so many rows would be made otherwise, or None where it would not."""


def build(kind: IndexKind, source: Source, folder: Path) -> VectorIndex:
    """Makes an index of all rows, reading them part by part.

    Labels are the numbers of the rows.

    Args:
        kind: The kind.
        source: The version.
        folder: Where ``ids.arrow`` goes.
    """
    index = kind.new(source)
    if index.trained_on:
        sample = HashSample(index.trained_on)
        for rows in source.batches():
            sample.add(rows)
        index.train(sample.rows()[1])
    ids = IdsWriter(folder)
    for rows in source.batches():
        numbers = np.arange(rows.first, rows.first + len(rows.ids))
        index.add(numbers, rows.float32())
        ids.add(rows.ids, pa.array(numbers), digests_of(rows.vectors))
    ids.close()
    return index


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors of length 1, by whose products cosines are compared; zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
