"""What fewer bytes per vector cost: the same searches over the same rows, stored otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.hashes.digests import hash_of
from embedkit.quantization import (
    Matrix,
    Ranges,
    bytes_of_bits,
    from_bits,
    from_int8,
    to_bits,
    to_int8,
)
from embedkit.search.evaluate.documents import Documents
from embedkit.search.evaluate.measures import DEPTH, Measured, measure
from embedkit.search.evaluate.ranking import QUERIES_AT_ONCE, Ranking
from embedkit.search.evaluate.retrieval import Gains, found_names, rank
from embedkit.search.scores import scores_of

CANDIDATES = 100
"""Documents of a search by bits that are put in order once more."""

NEAREST = 10
_CUTS = (1024, 768, 512, 256, 128, 64)
_SAMPLED = 200
_FLOAT = 4


@dataclass(frozen=True)
class Storage:
    """A way to store vectors.

    Attributes:
        name: What it is called.
        bytes_per_row: What a vector takes.
        formula: How a row is scored, for a person.
        metric: How what is read back is compared.
        rows: Makes of vectors what is read back when they were stored so.
        queries: Makes of queries' vectors what is compared with that.
        again: How the nearest ``CANDIDATES`` are put in order once more; None if they are not.
    """

    name: str
    bytes_per_row: int
    formula: str
    metric: str
    rows: Callable[[Matrix], Matrix]
    queries: Callable[[Matrix], Matrix]
    again: "Storage | None" = None


@dataclass(frozen=True)
class StorageCost:
    """What a way to store vectors costs.

    Attributes:
        bytes_per_row: What a vector takes.
        bytes: What all of them take.
        recall: Share of the ten documents nearest by float32 that are among its own ten.
        measured: Measures of retrieval; None without judgments.
        formula: How a row is scored.
    """

    bytes_per_row: int
    bytes: int
    recall: float
    measured: Measured | None
    formula: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures by name."""
        return {
            "bytes_per_row": self.bytes_per_row,
            "bytes": self.bytes,
            f"recall@{NEAREST}": self.recall,
            **({} if self.measured is None else self.measured.means),
            "formula": self.formula,
        }


def _same(vectors: Matrix) -> Matrix:
    return vectors


def storages(dimension: int, metric: str, normalized: bool, ranges: Ranges) -> list[Storage]:
    """Returns the ways to store vectors that are compared, float32 first.

    Args:
        dimension: Components of a vector.
        metric: The metric of the dataset.
        normalized: Whether its vectors have length 1, so that cut ones get it again.
        ranges: Ranges of the components over all rows.
    """
    exact = f"{metric} of the query and the row, both in float32"
    bits = bytes_of_bits(dimension)

    def signs(vectors: Matrix) -> Matrix:
        return from_bits(to_bits(vectors), dimension)

    def int8(vectors: Matrix) -> Matrix:
        return from_int8(to_int8(vectors, ranges), ranges)

    by_int8 = Storage(
        "int8",
        dimension,
        f"{metric} of the query in float32 and low + (code + 128.5) * step, of codes by the range "
        "of each component over all rows",
        metric,
        int8,
        _same,
    )
    by_signs = Storage("", bits, "", "dot", signs, _same)
    half = Storage(
        "float16",
        _FLOAT // 2 * dimension,
        f"{metric} of the query in float32 and the row in float16",
        metric,
        lambda vectors: vectors.astype(np.float16),
        _same,
    )
    largest = max(float(np.abs(ranges.low).max()), float(np.abs(ranges.high).max()))
    again = f"; the nearest {CANDIDATES} again by "
    binary = "the least Hamming distance of the signs of both"
    return [
        Storage("float32", _FLOAT * dimension, exact, metric, _same, _same),
        # Beyond that a component would be infinite, and a run rejects its document.
        *([half] if largest <= float(np.finfo(np.float16).max) else []),
        by_int8,
        Storage("binary", bits, binary, "dot", signs, signs),
        Storage(
            "binary_rescored",
            bits,
            f"{binary}{again}the dot product of the query in float32 and the row's signs",
            "dot",
            signs,
            signs,
            by_signs,
        ),
        Storage(
            "binary_int8",
            bits + dimension,
            f"{binary}{again}their int8 codes",
            "dot",
            signs,
            signs,
            by_int8,
        ),
        *(_cut(size, metric, normalized) for size in _CUTS if size < dimension),
    ]


def _cut(size: int, metric: str, normalized: bool) -> Storage:
    def cut(vectors: Matrix) -> Matrix:
        kept = vectors[:, :size].astype(np.float32, copy=False)
        if not normalized:
            return kept
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        return kept / np.where(lengths > 0, lengths, 1)

    again = ", with length 1 again" if normalized else ""
    formula = (
        f"{metric} of the first {size} components of both{again}, which is worth what the model "
        "was trained for (Matryoshka)"
    )
    return Storage(f"first_{size}", _FLOAT * size, formula, metric, cut, cut)


def storage_costs(
    documents: Documents,
    queries: NDArray[np.floating[Any]],
    gains: Gains,
    metric: str,
    normalized: bool,
    excluded: NDArray[np.int64] | None = None,
) -> dict[str, StorageCost]:
    """Compares ways to store vectors by what the same queries find.

    Rows are read once for the ranges, and once or twice for each way.

    Args:
        documents: The documents.
        queries: Vectors of the queries, float32, shape (queries, dimension).
        gains: Judgments of the queries, in their order; none if there are none.
        metric: The metric of the dataset.
        normalized: Whether its vectors have length 1.
        excluded: Of each query the number of a document that it may not find, shape (queries,).

    Returns:
        What each way costs, by its name.
    """
    rows = 0
    found_ranges: list[Ranges] = []
    for _, vectors in documents.rows():
        found_ranges.append(Ranges.of(vectors))
        rows += len(vectors)
    ranges = reduce(Ranges.__add__, found_ranges)
    costs: dict[str, StorageCost] = {}
    nearest: list[set[int]] = []
    for way in storages(queries.shape[1], metric, normalized, ranges):
        ranking = _rank(documents, queries, way, excluded)
        found = [set(ranking.documents(query)[:NEAREST].tolist()) for query in range(len(queries))]
        nearest = nearest or found
        shares = [
            len(one & best) / max(1, len(best)) for one, best in zip(found, nearest, strict=True)
        ]
        measured = None
        if gains:
            measured = measure(gains, found_names(ranking, list(gains), documents.names))
        costs[way.name] = StorageCost(
            way.bytes_per_row,
            way.bytes_per_row * rows,
            float(np.mean(shares)),
            measured,
            way.formula,
        )
    return costs


def _rank(
    documents: Documents,
    queries: NDArray[np.floating[Any]],
    way: Storage,
    excluded: NDArray[np.int64] | None,
) -> Ranking:
    asked = way.queries(queries)
    ranking = rank(documents, asked, way.metric, DEPTH, excluded, way.rows)
    if way.again is not None:
        _rank_again(documents, queries, way.again, ranking)
    return ranking


def _rank_again(
    documents: Documents, queries: NDArray[np.floating[Any]], way: Storage, ranking: Ranking
) -> None:
    """Puts the first documents of a ranking in the order of another way, the others stay behind."""
    candidates = [np.sort(ranking.documents(query)[:CANDIDATES]) for query in range(len(queries))]
    again = Ranking(len(queries), CANDIDATES)
    for numbers, vectors in documents.rows():
        stored = way.rows(vectors)
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[first : first + QUERIES_AT_ONCE]
            scores = scores_of(way.queries(some), stored, way.metric)
            for place, row in enumerate(scores, first):
                row[~np.isin(numbers, candidates[place])] = -np.inf
            again.add(first, numbers, scores)
    for query in range(len(queries)):
        ranking.begin_with(query, again.documents(query))


def sampled_queries(
    documents: Documents, count: int = _SAMPLED
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Takes vectors of some documents as queries, chosen by the hashes of their ids.

    Args:
        documents: The documents.
        count: How many.

    Returns:
        The vectors, and the number of the document that each is of, which it may not find.
    """
    hashes = [hash_of(name.encode("utf-8", "surrogatepass")) for name in documents.names]
    chosen = sorted(range(len(hashes)), key=hashes.__getitem__)[:count]
    wanted: Mapping[int, int] = {number: place for place, number in enumerate(sorted(chosen))}
    found: dict[int, NDArray[np.float32]] = {}
    for numbers, vectors in documents.rows():
        for row, number in enumerate(numbers.tolist()):
            if number in wanted and number not in found:
                found[number] = vectors[row].astype(np.float32)
    numbers = np.array(sorted(found), dtype=np.int64)
    return np.stack([found[number] for number in numbers.tolist()]), numbers
