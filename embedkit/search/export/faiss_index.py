"""Files of faiss: exact below 10,000 rows, else inverted lists (target faiss), or HNSW."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.search.export.ids import ANEW
from embedkit.search.export.index import Found, VectorIndex, unit
from embedkit.search.export.measure import efforts
from embedkit.search.export.source import Source

FILE: Final = "index.faiss"
_METRICS = {
    "cosine": faiss.METRIC_INNER_PRODUCT,
    "dot": faiss.METRIC_INNER_PRODUCT,
    "euclidean": faiss.METRIC_L2,
    "manhattan": faiss.METRIC_L1,
}
_EXACT_BELOW = 10_000
_ROWS_PER_LIST = 64
"""Rows of the training sample for each list; faiss wants at least 39, and uses at most 256."""
_MOST_LISTS = 1 << 16
_LINKS = 32
_EF_CONSTRUCTION = 100
_MOST_EF = 1024


def lists_for(rows: int) -> int:
    """Returns how many inverted lists so many rows get, 0 where all rows are compared.

    The power of two nearest below 4 times the root of the rows, as faiss's guidelines for up to
    a million rows have it; above, lists get longer instead of taking ever more training.
    """
    if rows < _EXACT_BELOW:
        return 0
    return min(_MOST_LISTS, 1 << int(np.log2(4 * np.sqrt(rows))))


class _FaissIndex(VectorIndex):
    """An index of faiss with labels of our own."""

    trained_on = 0

    def __init__(self, index: Any, metric: str, of_index: dict[str, Any]) -> None:
        self._index = index
        self._metric = metric
        self._of_index = of_index

    def _prepared(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit(vectors) if self._metric == "cosine" else np.ascontiguousarray(vectors)

    def train(self, vectors: NDArray[np.float32]) -> None:
        """Finds the centres of the lists."""
        self._index.train(self._prepared(vectors))

    def add(self, labels: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds entries."""
        self._index.add_with_ids(self._prepared(vectors), labels)

    def remove(self, labels: NDArray[np.int64]) -> None:
        """Removes entries."""
        self._index.remove_ids(np.ascontiguousarray(labels, np.int64))

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Finds the entries nearest to each query."""
        found, labels = self._index.search(self._prepared(queries), k)
        if self._metric == "euclidean":
            found = -np.sqrt(np.maximum(found, 0))
        elif self._metric == "manhattan":
            found = -found
        return labels, found

    def save(self, folder: Path) -> None:
        """Writes it."""
        faiss.write_index(self._index, str(folder / FILE))

    def settings(self) -> dict[str, Any]:
        """Returns what faiss was told, and whether queries are to be of length 1."""
        return {
            **self._of_index,
            "file": FILE,
            "unit_vectors": self._metric == "cosine",
            "library": f"faiss {faiss.__version__}",
        }


class _Lists(_FaissIndex):
    """Inverted lists, or all rows one by one where they are few."""

    can_remove = True

    def __init__(self, index: Any, metric: str, of_index: dict[str, Any]) -> None:
        super().__init__(index, metric, of_index)
        lists = int(of_index["lists"])
        self.trained_on = _ROWS_PER_LIST * lists
        self.efforts: Sequence[int] = efforts(1, lists) if lists else (0,)

    @property
    def effort(self) -> int:
        """How many lists are searched."""
        return int(self._of_index["nprobe"])

    @effort.setter
    def effort(self, value: int) -> None:
        self._of_index["nprobe"] = value
        if self._of_index["lists"]:
            self._index.nprobe = value


class _Hnsw(_FaissIndex):
    """A graph of neighbours, HNSW."""

    can_remove = False
    efforts: Sequence[int] = efforts(16, _MOST_EF)

    @property
    def effort(self) -> int:
        """How many candidates a search keeps."""
        return int(self._of_index["ef_search"])

    @effort.setter
    def effort(self, value: int) -> None:
        self._of_index["ef_search"] = value
        graph: Any = faiss.downcast_index(self._index.index)
        graph.hnsw.efSearch = value


class FaissLists:
    """Target ``faiss``."""

    metrics = tuple(_METRICS)

    def new(self, source: Source) -> VectorIndex:
        """Returns an empty index."""
        kind = _METRICS[source.metric]
        lists = lists_for(source.rows)
        centres = faiss.IndexFlat(source.dimension, kind)
        index: Any
        if lists:
            index = faiss.IndexIVFFlat(centres, source.dimension, lists, kind)
            name = f"IVF{lists},Flat"
        else:
            index = faiss.IndexIDMap2(centres)
            name = "IDMap2,Flat"
        return _Lists(
            index, source.metric, {"index": name, "lists": lists, "nprobe": min(1, lists)}
        )

    def load(self, folder: Path, metric: str, settings: dict[str, Any]) -> VectorIndex:
        """Opens an index."""
        index = _Lists(_read(folder), metric, _kept(settings, "index", "lists", "nprobe"))
        index.effort = index.effort
        return index

    def outgrown(self, settings: dict[str, Any], rows: int) -> str | None:
        """Says whether so many rows would get a quarter or four times the lists."""
        has, wants = int(settings["lists"]), lists_for(rows)
        if bool(has) == bool(wants) and has < 4 * max(1, wants) and wants < 4 * max(1, has):
            return None
        return f"it has {has:,} lists, and {rows:,} rows get {wants:,}"


class FaissHnsw:
    """Target ``hnsw``."""

    metrics = tuple(_METRICS)

    def new(self, source: Source) -> VectorIndex:
        """Returns an empty index."""
        graph = faiss.IndexHNSWFlat(source.dimension, _LINKS, _METRICS[source.metric])
        graph.hnsw.efConstruction = _EF_CONSTRUCTION
        return _Hnsw(
            faiss.IndexIDMap2(graph),
            source.metric,
            {
                "index": f"IDMap2,HNSW{_LINKS},Flat",
                "links": _LINKS,
                "ef_construction": _EF_CONSTRUCTION,
                "ef_search": 16,
            },
        )

    def load(self, folder: Path, metric: str, settings: dict[str, Any]) -> VectorIndex:
        """Opens an index."""
        names = ("index", "links", "ef_construction", "ef_search")
        index = _Hnsw(_read(folder), metric, _kept(settings, *names))
        index.effort = index.effort
        return index

    def outgrown(self, settings: dict[str, Any], rows: int) -> str | None:
        """Says nothing: a graph fits any number of rows."""
        return None


def _read(folder: Path) -> Any:
    path = folder / FILE
    try:
        return faiss.read_index(str(path))
    # faiss has no errors of its own.
    except RuntimeError as error:
        raise IntegrityError(f"{path}: not readable ({one_line(error)}); {ANEW}") from error


def _kept(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names}


LISTS: Final = FaissLists()
HNSW: Final = FaissHnsw()
