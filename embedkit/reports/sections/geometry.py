"""How rows lie to each other, in a sample that is large enough to have real neighbours.

Figures on cosines are to be read against those of random pairs, which are the model's own floor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.facts import Facts
from embedkit.reports.nearest import Neighbours
from embedkit.reports.phrasing import noun, percent, significant
from embedkit.reports.section import QUANTILES, Finding, Nothing, Section, share
from embedkit.reports.vector_sample import SampledVectors, numbered

NEIGHBOURS = 10
"""Neighbours of a row that are looked at."""

_PAIRED = 2048
"""Rows of which every pair is taken, for what is said of random pairs."""

_SHOWN = 10
_EQUAL_SHOWN = 5
_LEFT_OUT = 0.1
"""Share of the largest ratios that TwoNN leaves out, as its paper does."""

_FEW = 30
_ENOUGH = 1000
_LITTLE_CONTRAST = 0.1
_HUBS = 5.0
_MANY_EQUAL = 0.005


@dataclass(frozen=True)
class Hubness:
    """How unequally rows are found, after Radovanovic et al. (JMLR 11, 2010).

    Attributes:
        k: Neighbours of each row that count.
        skewness: Of how often a row is among the neighbours of another.
        never: Share of rows that are among those of none.
        most: How often the one is that is most often.
    """

    k: int
    skewness: float
    never: float
    most: int


@dataclass(frozen=True)
class Geometry:
    """How rows of the sample lie to each other.

    Attributes:
        sampled: Rows of the sample.
        unusable: Rows without a direction.
        compared: The others, one of each text and document.
        floor: Quantiles of the cosines of random pairs, by their names.
        floor_mean: Their mean.
        nearest: Quantiles of the cosines of nearest neighbours.
        contrast: How far the median nearest neighbour is above the median random pair, as a share
            of how far it could be: (nearest - floor) / (1 - floor).
        uniformity: log of the mean of exp(-2 |x - y|^2) over random pairs, after Wang and Isola
            (ICML 2020).
        intrinsic_dimension: By TwoNN, after Facco et al. (Scientific Reports 7, 2017).
        hubness: How unequally rows are found.
        isolated: Share of rows whose nearest neighbour is no nearer than the nearest of a hundred
            random rows usually is.
        outliers: The rows that are farthest from their neighbours, with the mean ``cosine``.
        equal: Rows with exactly the vector of another row whose text differs.
        equal_share: Their share of rows with different texts.
        equal_pairs: Some of them, each with a row that has the same vector.
    """

    sampled: int
    unusable: int
    compared: int
    floor: dict[str, float]
    floor_mean: float | None
    nearest: dict[str, float]
    contrast: float | None
    uniformity: float | None
    intrinsic_dimension: float | None
    hubness: Hubness | None
    isolated: float | None
    outliers: list[dict[str, Any]]
    equal: int
    equal_share: float
    equal_pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class GeometryFigures:
    """The section's entry of the report."""

    geometry: Geometry


def _figures(statistic: Nothing, facts: Facts) -> GeometryFigures:
    assert facts.examined is not None, "else the section is left out"
    sampled, texts = facts.examined.sampled, facts.examined.distinct
    pairs, equal = equal_vectors(texts.vectors)
    compared = texts.one_of_each(texts.documents)
    units = compared.units
    floor = random_pairs(units)
    k = min(NEIGHBOURS, len(units) - 1)
    found = facts.nearest(units, k) if k > 0 else None
    near = found.cosines[:, 0].astype(np.float64) if found else np.empty(0)
    return GeometryFigures(
        Geometry(
            sampled=sampled,
            unusable=sampled - len(facts.examined.usable),
            compared=len(compared),
            floor=quantiles_of(floor),
            floor_mean=_rounded(floor.mean()) if len(floor) else None,
            nearest=quantiles_of(near),
            contrast=_contrast(near, floor),
            uniformity=_rounded(uniformity(floor)) if len(floor) else None,
            intrinsic_dimension=two_nn(units, found),
            hubness=hubness(found),
            isolated=_isolated(near, floor),
            outliers=_outliers(found, compared, facts),
            equal=equal,
            equal_share=share(equal, len(texts)),
            equal_pairs=_told_pairs(pairs, texts, facts),
        )
    )


def random_pairs(units: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the cosines of every pair of the first rows, which are as good as drawn at random.

    Args:
        units: Vectors of length 1, shape (n, d), in the order of their keys.
    """
    first = units[:_PAIRED]
    # Rounded, so that the order in which a matrix product adds cannot change a report.
    cosines = (first @ first.T)[np.triu_indices(len(first), 1)].astype(np.float64)
    rounded: NDArray[np.float64] = np.clip(np.round(cosines, 6), -1, 1)
    return rounded


def uniformity(cosines: NDArray[np.float64]) -> float:
    """Returns log of the mean of exp(-2 |x - y|^2), given cosines of pairs of unit vectors."""
    return float(np.log(np.exp(4 * (cosines - 1)).mean()))


def quantiles_of(cosines: NDArray[np.float64]) -> dict[str, float]:
    """Returns the quantiles of cosines by their names; empty where there are none."""
    if not len(cosines):
        return {}
    found = np.quantile(cosines, [part for _, part in QUANTILES])
    return {name: _rounded(value) for (name, _), value in zip(QUANTILES, found, strict=True)}


def two_nn(units: NDArray[np.float32], found: Neighbours | None) -> float | None:
    """Estimates the intrinsic dimension from how much farther the second neighbour is.

    The ratio of both distances follows a Pareto law whose exponent is the dimension; a line through
    the origin is fitted to its distribution, the largest tenth left out.

    Args:
        units: Vectors of length 1, shape (n, d).
        found: Their two nearest neighbours at least.

    Returns:
        None of fewer than 30 rows with two neighbours apart from them.
    """
    if found is None or found.rows.shape[1] < 2:
        return None
    # Cosines close to 1 lose the digits that say which of two neighbours is the nearer one.
    distances = np.sort([_distances(units, found.rows[:, place]) for place in (0, 1)], axis=0)
    # In float32, whose vectors these are, closer ones cannot be told from equal ones.
    apart = distances[0] > 1e-6
    ratios = np.sort(np.log(distances[1][apart] / distances[0][apart]))
    count = len(ratios)
    kept = int(count * (1 - _LEFT_OUT))
    if count < _FEW or not ratios[:kept].any():
        return None
    expected = -np.log1p(-np.arange(1, kept + 1) / count)
    return float(f"{(ratios[:kept] @ expected) / np.square(ratios[:kept]).sum():.4g}")


def _distances(units: NDArray[np.float32], others: NDArray[np.int32]) -> NDArray[np.float64]:
    """Returns the distance of each row to another, without the digits that a cosine loses."""
    found = np.empty(len(units))
    for start in range(0, len(units), _PAIRED):
        rows = slice(start, start + _PAIRED)
        apart = units[rows].astype(np.float64) - units[others[rows]]
        found[rows] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    return found


def hubness(found: Neighbours | None) -> Hubness | None:
    """Counts how often each row is among the neighbours of others; None of fewer than 30 rows."""
    if found is None or len(found.rows) < _FEW:
        return None
    counts = np.bincount(found.rows.reshape(-1), minlength=len(found.rows)).astype(np.float64)
    apart = counts - counts.mean()
    deviation = np.sqrt(np.square(apart).mean())
    skewness = float((apart**3).mean() / deviation**3) if deviation else 0.0
    return Hubness(
        k=found.rows.shape[1],
        skewness=_rounded(skewness),
        never=share(int((counts == 0).sum()), len(counts)),
        most=int(counts.max()),
    )


def equal_vectors(
    vectors: NDArray[np.float32],
) -> tuple[list[tuple[int, int]], int]:
    """Finds rows with the very bytes of another row's vector.

    Args:
        vectors: Vectors, float32, shape (n, d).

    Returns:
        Pairs of a row and the first that has its vector, and how many rows have another's.
    """
    if len(vectors) < 2:
        return [], 0
    numbers = numbered(vectors)
    _, first, counts = np.unique(numbers, return_index=True, return_counts=True)
    firsts = first[numbers]
    others = np.flatnonzero(firsts != np.arange(len(numbers)))
    return [(int(firsts[row]), int(row)) for row in others], int(counts[counts > 1].sum())


def _contrast(near: NDArray[np.float64], floor: NDArray[np.float64]) -> float | None:
    if not len(near):
        return None
    usual = float(np.median(floor))
    return _rounded((float(np.median(near)) - usual) / (1 - usual)) if usual < 1 else 0.0


def _isolated(near: NDArray[np.float64], floor: NDArray[np.float64]) -> float | None:
    if not len(near):
        return None
    return share(int((near <= np.quantile(floor, 0.99)).sum()), len(near))


def _outliers(
    found: Neighbours | None, compared: SampledVectors, facts: Facts
) -> list[dict[str, Any]]:
    if found is None or len(compared) < _FEW:
        return []
    means = np.round(found.cosines.mean(axis=1, dtype=np.float64), 6)
    far = np.argsort(means, kind="stable")[:_SHOWN]
    rows = facts.rows_at(compared.places[far].tolist())
    return [{"cosine": float(means[one]), **row} for one, row in zip(far, rows, strict=True)]


def _told_pairs(
    pairs: list[tuple[int, int]], texts: SampledVectors, facts: Facts
) -> list[dict[str, Any]]:
    shown = pairs[:_EQUAL_SHOWN]
    places = [int(texts.places[row]) for pair in shown for row in pair]
    known = dict(
        zip(dict.fromkeys(places), facts.rows_at(list(dict.fromkeys(places))), strict=True)
    )
    return [
        {"left": known[left], "right": known[right]}
        for left, right in zip(places[::2], places[1::2], strict=True)
    ]


def _rounded(value: float) -> float:
    return round(float(value), 6)


def _findings(figures: GeometryFigures, facts: Facts) -> Iterator[Finding]:
    found = figures.geometry
    if found.equal:
        yield Finding(
            level="warning" if found.equal_share >= _MANY_EQUAL else "note",
            text=f"{noun(found.equal, 'sampled row')} ({percent(found.equal_share)}) have exactly "
            "the vector of a row with another text. Texts that differ beyond what the model sees, "
            "or in case alone, do; of any other texts it is a fault.",
        )
    if found.compared < _ENOUGH:
        return
    if found.contrast is not None and found.contrast < _LITTLE_CONTRAST:
        yield Finding(
            level="warning",
            text=f"Nearest neighbours (median cosine {significant(found.nearest['p50'], 3)}) are "
            f"hardly nearer than random pairs ({significant(found.floor['p50'], 3)}): the vectors "
            "do not tell what is alike. Is the model right for these texts, and its pooling?",
        )
    hubs = found.hubness
    if hubs is not None and hubs.skewness >= _HUBS:
        yield Finding(
            level="note",
            text=f"A few rows are near to very many, one to {noun(hubs.most, 'other')}, and "
            f"{percent(hubs.never)} to none: these few will turn up in many searches.",
        )


SECTION = Section(
    __file__,
    Nothing,
    _figures,
    _findings,
    columns=("embedding",),
    applies=lambda facts: facts.has_examined_vectors,
)
