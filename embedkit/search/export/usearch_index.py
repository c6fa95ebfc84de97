"""Files of usearch: HNSW, which entries can be removed from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import usearch
from numpy.typing import NDArray
from usearch.index import Index, Matches

from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.search.export.ids import ANEW
from embedkit.search.export.index import Found, VectorIndex
from embedkit.search.export.measure import efforts
from embedkit.search.export.source import Source

FILE: Final = "index.usearch"
_METRICS = {"cosine": "cos", "dot": "ip", "euclidean": "l2sq"}
_LINKS = 16
_EXPANSION_ADD = 128
_MOST_EXPANSION = 1024
_ALONE = 10_000
"""Entries up to which one thread adds: several at once leave some in a small graph that nothing
leads to, one in some hundred, so that no search finds them."""


class _Usearch(VectorIndex):
    """An index of usearch."""

    trained_on = 0
    can_remove = True
    efforts: Sequence[int] = efforts(16, _MOST_EXPANSION)

    def __init__(self, index: Index, metric: str) -> None:
        self._index = index
        self._metric = metric

    @property
    def effort(self) -> int:
        """How many candidates a search keeps."""
        return int(self._index.expansion_search)

    @effort.setter
    def effort(self, value: int) -> None:
        self._index.expansion_search = value

    def train(self, vectors: NDArray[np.float32]) -> None:
        """Learns nothing."""

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds entries."""
        threads = 1 if len(self._index) < _ALONE else 0
        self._index.add(labels.astype(np.uint64), vectors, threads=threads)

    def remove(self, labels: NDArray[np.int64]) -> None:
        """Marks entries as gone; usearch uses their places again for what is added."""
        self._index.remove(labels.astype(np.uint64))

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Finds the entries nearest to each query."""
        labels = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        answer = self._index.search(queries, k)
        # Of one query it is the matches themselves.
        for place, found in enumerate([answer] if isinstance(answer, Matches) else answer):
            labels[place, : len(found)] = found.keys.astype(np.int64)
            distances = found.distances
            near = (
                -np.sqrt(np.maximum(distances, 0))
                if self._metric == "euclidean"
                else (1 - distances)
            )
            scores[place, : len(found)] = near
        return labels, scores

    def save(self, folder: Path) -> None:
        """Writes it."""
        self._index.save(str(folder / FILE))

    def settings(self) -> dict[str, Any]:
        """Returns what usearch was told."""
        return {
            "index": "HNSW",
            "metric": _METRICS[self._metric],
            "dtype": str(self._index.dtype).rpartition(".")[2].lower(),
            "connectivity": int(self._index.connectivity),
            "expansion_add": int(self._index.expansion_add),
            "expansion_search": self.effort,
            "file": FILE,
            "library": f"usearch {usearch.__version__}",
        }


class UsearchIndex:
    """Target ``usearch``."""

    metrics = tuple(_METRICS)

    def new(self, source: Source) -> VectorIndex:
        """Returns an empty index; vectors that are stored in half precision stay so."""
        index = Index(
            ndim=source.dimension,
            metric=_METRICS[source.metric],
            dtype="f16" if source.dtype == np.float16 else "f32",
            connectivity=_LINKS,
            expansion_add=_EXPANSION_ADD,
        )
        return _Usearch(index, source.metric)

    def load(self, folder: Path, metric: str, settings: dict[str, Any]) -> VectorIndex:
        """Opens an index."""
        path = folder / FILE
        try:
            index = Index.restore(str(path))
        except (RuntimeError, ValueError, OSError) as error:
            raise IntegrityError(f"{path}: not readable ({one_line(error)}); {ANEW}") from error
        if index is None:
            raise IntegrityError(f"{path}: not readable as an index of usearch; {ANEW}")
        index.expansion_search = settings["expansion_search"]
        return _Usearch(index, metric)

    def outgrown(self, settings: dict[str, Any], rows: int) -> str | None:
        """Says nothing: a graph fits any number of rows."""
        return None


KIND: Final = UsearchIndex()
