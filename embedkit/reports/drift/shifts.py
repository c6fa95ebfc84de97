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
_NAMED = 5000
"""Texts that name the clusters."""


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


def cluster_shifts(earlier: SampledVectors, later: SampledVectors) -> Shifts:
    """Parts the rows of two samples, all of them usable, into clusters and compares their shares.

    Clusters are those of both samples together, so that a subject which is new, or is gone, has
    one of its own.
    """
    sides = (earlier, later)
    keys, texts, units, beginnings = (
        np.concatenate([getattr(side, name) for side in sides])
        for name in ("keys", "texts", "units", "beginnings")
    )
    order = np.argsort(keys, kind="stable")
    distinct = order[np.sort(np.unique(texts[order], return_index=True)[1])]
    found = clusters_of(units[distinct])
    if isinstance(found, str):
        return Shifts(False, found)
    count = int(found.numbers.max()) + 1
    centres = _means(units[distinct], found.numbers, count)
    numbers = (units @ _directions(centres).T.astype(np.float32)).argmax(axis=1)
    named = distinct[:_NAMED]
    terms = class_terms(
        [text or "" for text in beginnings[named].tolist()],
        numbers[named].astype(np.int32),
    )
    return _compared(sides, (numbers[: len(earlier)], numbers[len(earlier) :]), terms, found.by)


def _compared(
    sides: tuple[SampledVectors, SampledVectors],
    numbers: tuple[NDArray[np.intp], NDArray[np.intp]],
    terms: list[list[str]],
    by: str,
) -> Shifts:
    count = int(max(map(np.max, numbers))) + 1
    sizes = np.array([np.bincount(one, minlength=count) for one in numbers])
    means = [_means(side.units, one, count) for side, one in zip(sides, numbers, strict=True)]
    shares = sizes / sizes.sum(axis=1, keepdims=True)
    apart = shares[1] - shares[0]
    changed = []
    for number in np.lexsort((np.arange(count), -np.abs(apart))).tolist():
        cosine = _cosine(means[0][number], means[1][number])
        changes = [
            *_sizes_changed(sizes[:, number], sizes.sum(axis=1)),
            *_centre_moved(means[0][number], means[1][number], sizes[:, number], cosine),
        ]
        if changes:
            changed.append(
                ShiftedCluster(
                    changes,
                    terms[number] if number < len(terms) else [],
                    share_before=round(float(shares[0, number]), 6),
                    share=round(float(shares[1, number]), 6),
                    centre_cosine=None if cosine is None else round(cosine, 6),
                    examples=_examples(sides, numbers, number, "shrank" in changes),
                )
            )
    counts = Counter(change for one in changed for change in one.changes)
    return Shifts(
        measured=True,
        by=by,
        clusters=count,
        shifted=round(float(np.abs(apart).sum()) / 2, 6),
        grew=counts["grew"],
        shrank=counts["shrank"],
        moved=counts["moved"],
        changed=changed[:_SHOWN],
    )


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


def _directions(means: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return means / np.where(lengths > 0, lengths, 1)


def _cosine(one: NDArray[np.float64], two: NDArray[np.float64]) -> float | None:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(np.clip(one @ two / lengths, -1, 1)) if lengths else None


def _sizes_changed(sizes: NDArray[np.int64], rows: NDArray[np.int64]) -> list[Change]:
    """Says whether a cluster grew or shrank by more than two samples of one corpus differ."""
    before, now = (sizes / rows).tolist()
    both = float(sizes.sum() / rows.sum())
    chance = np.sqrt(both * (1 - both) * float((1 / rows).sum()))
    apart = now - before
    if abs(apart) <= _DEVIATIONS * chance or abs(apart) < _LEAST_CHANGE * max(before, now):
        return []
    return ["grew" if apart > 0 else "shrank"]


def _centre_moved(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    sizes: NDArray[np.int64],
    cosine: float | None,
) -> list[Change]:
    """Says whether the centre of a cluster moved by more than those of two samples differ.

    The mean direction of n unit vectors with a mean of length R is off by an angle whose square is
    (1 - R^2) / (R^2 n), so far as it is small; 1 less its cosine is half of that.
    """
    if cosine is None or not sizes.all():
        return []
    squares = [float(np.square(mean).sum()) for mean in (before, now)]
    chance = sum((1 - one) / (one * n) for one, n in zip(squares, sizes.tolist(), strict=True)) / 2
    return ["moved"] if 1 - cosine > max(_LEAST_MOVE, _DEVIATIONS * chance) else []


def _examples(
    sides: tuple[SampledVectors, SampledVectors],
    numbers: tuple[NDArray[np.intp], NDArray[np.intp]],
    number: int,
    went: bool,
) -> list[str]:
    """Returns texts of a cluster that came or went, those nearest to the mean of all these."""
    mine, other = (0, 1) if went else (1, 0)
    side = sides[mine]
    rows = np.flatnonzero(numbers[mine] == number)
    new = rows[~np.isin(side.texts[rows], sides[other].texts)]
    rows = new if len(new) else rows
    if not len(rows):
        return []
    units = side.take(rows).units.astype(np.float64)
    nearest = rows[np.argsort(-np.round(units @ units.mean(axis=0), 6), kind="stable")]
    _, first = np.unique(side.texts[nearest], return_index=True)
    shown = side.beginnings[nearest[np.sort(first)][:_EXAMPLES]].tolist()
    return [excerpt(text) for text in shown if text is not None]
