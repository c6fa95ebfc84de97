"""How well an index answers: recall and time, with rows of the version as queries."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.search.exact import search
from embedkit.search.export.index import Found
from embedkit.search.export.record import Measured
from embedkit.search.export.source import HashSample, Source
from embedkit.search.scores import scores_of

K = 10
QUERIES = 200
TUNING = 100
_TIED = 40
_ROOM = 1e-7


class Searched(Protocol):
    """What is asked for the nearest of its entries, see ``VectorIndex``."""

    efforts: Sequence[int]
    effort: int

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Finds the entries nearest to each query, shape (queries, dimension)."""
        ...


@dataclass(frozen=True)
class _Truth:
    """What is nearest to some rows.

    Attributes:
        numbers: The numbers of the rows, shape (queries,).
        vectors: Their vectors, shape (queries, dimension).
        nearest: The numbers of those rows that count as found, shape (queries, K + _TIED); -1
            where there are fewer.
        counts: How many rows are to be found, K or all others.
    """

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]
    nearest: NDArray[np.int64]
    counts: int

    def part(self, some: slice) -> "_Truth":
        """Returns some of the queries."""
        return _Truth(self.numbers[some], self.vectors[some], self.nearest[some], self.counts)


def measure(
    index: Searched, labels_to_rows: NDArray[np.int64], source: Source, wanted_recall: float
) -> Measured:
    """Chooses an index's least effort that gives a recall, and measures it with other queries.

    Args:
        index: The index, whose effort is set.
        labels_to_rows: The number of each entry's row, -1 where it is gone, shape (entries,).
        source: The version.
        wanted_recall: The recall.
    """
    truth = _truth(source, QUERIES + TUNING)
    queries = min(QUERIES, max(1, len(truth.numbers) * QUERIES // (QUERIES + TUNING)))
    asked, tuning = truth.part(slice(queries)), truth.part(slice(queries, None))
    reached = _choose_effort(index, labels_to_rows, tuning, wanted_recall)
    found, seconds = _asked_alone(index, asked)
    began = time.perf_counter()
    search(source.version, asked.vectors[:1], K)
    exact = time.perf_counter() - began
    return Measured(
        queries=queries,
        k=K,
        recall=round(_recall(found, labels_to_rows, asked), 4),
        wanted_recall=wanted_recall,
        reached=reached,
        milliseconds=_rounded(np.median(seconds)),
        milliseconds_p95=_rounded(np.quantile(seconds, 0.95)),
        exact_milliseconds=_rounded(exact),
    )


def _rounded(seconds: float | np.floating) -> float:
    return round(float(seconds) * 1000, 3)


def _choose_effort(
    index: Searched, labels_to_rows: NDArray[np.int64], truth: _Truth, wanted: float
) -> bool:
    """Sets the least effort whose recall is enough, or the most there is."""
    if len(index.efforts) == 1 or not len(truth.numbers):
        index.effort = index.efforts[-1]
        return len(index.efforts) == 1
    for effort in index.efforts:
        index.effort = effort
        found, _ = index.search(truth.vectors, K + 1)
        if _recall(found, labels_to_rows, truth) >= wanted:
            return True
    return False


def _asked_alone(index: Searched, truth: _Truth) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    found, seconds = [], []
    # The first one warms caches up.
    index.search(truth.vectors[:1], K + 1)
    for query in truth.vectors:
        began = time.perf_counter()
        found.append(index.search(query[None], K + 1)[0])
        seconds.append(time.perf_counter() - began)
    return np.concatenate(found), np.array(seconds)


def _recall(found: NDArray[np.int64], labels_to_rows: NDArray[np.int64], truth: _Truth) -> float:
    if not truth.counts:
        return 1.0
    right = 0
    for labels, number, nearest in zip(found, truth.numbers, truth.nearest, strict=True):
        rows = labels_to_rows[labels[labels >= 0]]
        rows = rows[rows != number][:K]
        right += min(truth.counts, int(np.isin(rows, nearest[nearest >= 0]).sum()))
    return right / (truth.counts * len(found))


def _truth(source: Source, queries: int) -> _Truth:
    """Compares some rows, those with the smallest hashes of their ids, with all rows."""
    sample = HashSample(queries)
    for rows in source.batches():
        sample.add(rows)
    numbers, vectors = sample.rows()
    most = K + _TIED
    scores = np.full((len(numbers), most), -np.inf)
    nearest = np.full((len(numbers), most), -1, np.int64)
    for rows in source.batches():
        here = scores_of(vectors, rows.vectors, source.metric)
        own = numbers - rows.first
        inside = np.flatnonzero((own >= 0) & (own < len(rows.ids)))
        here[inside, own[inside]] = -np.inf
        scores, nearest = _best(scores, nearest, here, rows.first)
    counts = min(K, source.rows - 1)
    if counts:
        last = scores[:, counts - 1 : counts]
        nearest[scores < last - _ROOM * np.maximum(1, np.abs(last))] = -1
    nearest[np.isneginf(scores)] = -1
    return _Truth(numbers, vectors, nearest, counts)


def _best(
    scores: NDArray[np.float64], nearest: NDArray[np.int64], here: NDArray[np.float64], first: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the best of what there was and of some more rows, best first."""
    most = scores.shape[1]
    if here.shape[1] > most:
        places = np.argpartition(-here, most - 1, axis=1)[:, :most]
        here = np.take_along_axis(here, places, axis=1)
    else:
        places = np.broadcast_to(np.arange(here.shape[1]), here.shape)
    scores = np.concatenate([scores, here], axis=1)
    nearest = np.concatenate([nearest, places + first], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(nearest, order, axis=1)


def efforts(least: int, most: int) -> Sequence[int]:
    """Returns powers of two of ``least`` up to ``most``, which is the last."""
    found = []
    while least < most:
        found.append(least)
        least *= 2
    return (*found, most)
