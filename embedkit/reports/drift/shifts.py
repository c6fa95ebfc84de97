"""Which clusters of rows grew, shrank or moved between two versions."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.map.clusters import clusters_of
from embedkit.reports.map.terms import class_terms
from embedkit.reports.sample import excerpt
from embedkit.reports.vector_sample import SampledVectors

Change = Literal["grew", "shrank", "moved"]

_DEVIATIONS = 3.0
"""So many standard deviations of two samples of one corpus are left to chance."""

_LEAST_CHANGE = 0.1
"""Share of its size by which a cluster has to grow or shrink to be told of."""

_LEAST_MOVE = 0.01
_SHOWN = 10
_EXAMPLES = 3
_NAMED = 100
"""Texts that name a cluster."""


@dataclass(frozen=True)
class ShiftedCluster:
    """A cluster that is not what it was.

    Attributes:
        changes: What of ``grew``, ``shrank`` and ``moved`` it did.
        terms: Terms that tell its texts from those of other clusters, the heaviest first.
        share_before: Its share of the rows of the earlier version.
        share: Of the later one.
        centre_cosine: Of its mean directions before and now; None where it is empty in one.
        examples: Beginnings of texts: of those that came, or of one that shrank, went.
    """

    changes: list[Change]
    terms: list[str]
    share_before: float
    share: float
    centre_cosine: float | None
    examples: list[str]


@dataclass(frozen=True)
class Shifts:
    """Clusters of the rows of two versions, found of both together.

    Attributes:
        measured: Whether they were looked for.
        why: Why they were not.
        by: What found them, ``faiss`` or ``scikit-learn``.
        clusters: How many there are.
        shifted: Half the sum of the differences of their shares: the share of rows that would have
            to be in another cluster for all shares to be as they were.
        grew: How many grew by more than chance gives.
        shrank: How many shrank.
        moved: Centres of how many moved.
        changed: Those, the most changed first, at most ten.
    """

    measured: bool
    why: str | None = None
    by: str | None = None
    clusters: int | None = None
    shifted: float | None = None
    grew: int | None = None
    shrank: int | None = None
    moved: int | None = None
    changed: list[ShiftedCluster] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Parted:
    """Rows of two samples, first all of the earlier one, and the cluster of each.

    Attributes:
        before: Rows of the earlier sample.
        texts: Hashes of their texts, shape (n,).
        beginnings: Beginnings of these, or None, shape (n,).
        units: Vectors of length 1, shape (n, d).
        distinct: The first row of each text, by ascending key.
        numbers: The clusters, from 0, shape (n,).
        count: How many there are.
    """

    before: int
    texts: NDArray[np.uint64]
    beginnings: NDArray[np.object_]
    units: NDArray[np.float32]
    distinct: NDArray[np.intp]
    numbers: NDArray[np.intp]
    count: int

    @property
    def sides(self) -> tuple[slice, slice]:
        """Where the rows of each sample are."""
        return slice(0, self.before), slice(self.before, None)


def cluster_shifts(earlier: SampledVectors, later: SampledVectors) -> Shifts:
    """Parts the rows of two samples, all of them usable, into clusters and compares their shares.

    Clusters are those of both samples together, so that a subject which is new, or is gone, has
    one of its own.
    """
    keys, texts, units, beginnings = (
        np.concatenate([getattr(side, name) for side in (earlier, later)])
        for name in ("keys", "texts", "units", "beginnings")
    )
    order = np.argsort(keys, kind="stable")
    distinct = order[np.sort(np.unique(texts[order], return_index=True)[1])]
    found = clusters_of(units[distinct])
    if isinstance(found, str):
        return Shifts(False, found)
    count = int(found.numbers.max()) + 1
    centres = _means(units[distinct], found.numbers, count)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres /= np.where(lengths > 0, lengths, 1)
    numbers = (units @ centres.T.astype(np.float32)).argmax(axis=1)
    parted = _Parted(len(earlier), texts, beginnings, units, distinct, numbers, count)
    return _compared(parted, found.by)


def _compared(parted: _Parted, by: str) -> Shifts:
    numbers = [parted.numbers[side] for side in parted.sides]
    sizes = np.array([np.bincount(one, minlength=parted.count) for one in numbers])
    means = [
        _means(parted.units[side], parted.numbers[side], parted.count) for side in parted.sides
    ]
    rows = sizes.sum(axis=1)
    shares = np.round(sizes / rows[:, None], 6)
    apart = np.abs(shares[1] - shares[0])
    cosines = [_cosine(*pair) for pair in zip(*means, strict=True)]
    changes: dict[int, list[Change]] = {}
    for number in np.argsort(-apart, kind="stable").tolist():
        grown = _size_changed(sizes[:, number], rows)
        moved = _centre_moved([mean[number] for mean in means], sizes[:, number], cosines[number])
        if grown or moved:
            changes[number] = grown + moved
    counts = Counter(one for found in changes.values() for one in found)
    # Reading the texts takes longer than all else, and most nights no cluster changes.
    terms = _terms(parted) if changes else []
    return Shifts(
        measured=True,
        by=by,
        clusters=parted.count,
        shifted=round(float(apart.sum()) / 2, 6),
        grew=counts["grew"],
        shrank=counts["shrank"],
        moved=counts["moved"],
        changed=[
            ShiftedCluster(
                found,
                terms[number],
                share_before=float(shares[0, number]),
                share=float(shares[1, number]),
                centre_cosine=cosines[number],
                examples=_examples(parted, number, "shrank" in found),
            )
            for number, found in list(changes.items())[:_SHOWN]
        ],
    )


def _terms(parted: _Parted) -> list[list[str]]:
    """Names each cluster by the first of its different texts."""
    numbers = parted.numbers[parted.distinct]
    order = np.argsort(numbers, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(numbers[order], numbers[order])
    named = parted.distinct[order[place < _NAMED]]
    texts = [text or "" for text in parted.beginnings[named].tolist()]
    found = class_terms(texts, parted.numbers[named].astype(np.int32))
    return found + [[]] * (parted.count - len(found))


def _means(
    units: NDArray[np.float32], numbers: NDArray[np.integer], count: int
) -> NDArray[np.float64]:
    """Returns the mean of the rows of each cluster, 0 of none, shape (count, d)."""
    means = np.zeros((count, units.shape[1]))
    for number in range(count):
        rows = units[numbers == number]
        if len(rows):
            means[number] = rows.mean(axis=0, dtype=np.float64)
    return means


def _cosine(one: NDArray[np.float64], two: NDArray[np.float64]) -> float | None:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    return round(float(np.clip(one @ two / lengths, -1, 1)), 6) if lengths else None


def _size_changed(sizes: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Change]:
    """Says whether a cluster grew or shrank by more than two samples of one corpus differ."""
    before, now = (sizes / rows).tolist()
    both = float(sizes.sum() / rows.sum())
    chance = np.sqrt(both * (1 - both) * float((1 / rows).sum()))
    apart = now - before
    if abs(apart) <= _DEVIATIONS * chance or abs(apart) < _LEAST_CHANGE * max(before, now):
        return []
    return ["grew" if apart > 0 else "shrank"]


def _centre_moved(
    means: list[NDArray[np.float64]], sizes: NDArray[np.int64], cosine: float | None
) -> list[Change]:
    """Says whether the centre of a cluster moved by more than those of two samples differ.

    The mean direction of n unit vectors with a mean of length R is off by an angle whose square is
    (1 - R^2) / (R^2 n), so far as it is small; 1 less its cosine is half of that.
    """
    if cosine is None:
        return []
    squares = [float(np.square(mean).sum()) for mean in means]
    chance = sum((1 - one) / (one * n) for one, n in zip(squares, sizes.tolist(), strict=True)) / 2
    return ["moved"] if 1 - cosine > max(_LEAST_MOVE, _DEVIATIONS * chance) else []


def _examples(parted: _Parted, number: int, went: bool) -> list[str]:
    """Returns texts of a cluster that came or went, those nearest to the mean of all these."""
    mine, other = parted.sides if went else parted.sides[::-1]
    rows = np.arange(len(parted.numbers))[mine]
    rows = rows[parted.numbers[rows] == number]
    new = rows[~np.isin(parted.texts[rows], parted.texts[other])]
    rows = new if len(new) else rows
    if not len(rows):
        return []
    units = parted.units[rows].astype(np.float64)
    nearest = rows[np.argsort(-np.round(units @ units.mean(axis=0), 6), kind="stable")]
    _, first = np.unique(parted.texts[nearest], return_index=True)
    shown = parted.beginnings[nearest[np.sort(first)[:_EXAMPLES]]].tolist()
    return [excerpt(text) for text in shown if text is not None]
