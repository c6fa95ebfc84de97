"""How many directions the vectors really use, and which of their dimensions say nothing.

All of it is computed from sums over rows that are read from the parts, see ``SecondMoments``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import count, noun, percent
from embedkit.reports.second_moments import SecondMoments
from embedkit.reports.section import Finding, Nothing, Section
from embedkit.reports.vector_faults import ALL_BUT_CONSTANT

_SHOWN = 10
_EXPLAINED = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
_DEAD_OF_MODELS = 0.01
"""Share of the dimensions that sound models may leave unused."""

_COLLAPSED = 1e-9
_ONE_DIRECTION = 0.5
_FEW_ROWS = 30
_FEW_TEXTS = 10
_RANKME_EPSILON = 1e-7


@dataclass(frozen=True)
class Dimension:
    """One dimension of the vectors.

    Attributes:
        dimension: Its number, from 0.
        low: Its smallest value, as it is stored.
        high: Its largest.
        deviation: Standard deviation of the directions in it.
    """

    dimension: int
    low: float
    high: float
    deviation: float


@dataclass(frozen=True)
class Spectrum:
    """How the variance of the directions is spread.

    Attributes:
        variance: All of it: 1 less the squared length of the mean direction.
        first_share: Share of the first principal component.
        explained: Shares of the first ten.
        components: How many hold half, 90 % and 99 % of it.
        effective_rank: exp of the entropy of the components' shares, as Roy and Vetterli define it
            (The effective rank, EUSIPCO 2007), of the covariance.
        rankme: The same of the singular values of the vectors, mean not taken off, as Garrido et
            al. define it (RankMe, ICML 2023).
    """

    variance: float
    first_share: float
    explained: list[float]
    components: dict[str, int]
    effective_rank: float
    rankme: float


@dataclass(frozen=True)
class Dimensions:
    """What the dimensions hold.

    Attributes:
        total: How many there are.
        rows: Rows that were read for it, those without a direction left out.
        blocks: The blocks that they are of.
        of_blocks: Blocks with rows there are; of very many not all are read.
        mean_length: Length of the mean direction; its square is the mean cosine of all pairs, each
            row and itself among them.
        mean_cosine: Of all pairs of two of the rows.
        spectrum: How the variance is spread; None of fewer than two rows, or more than 2,048
            dimensions.
        low: The smallest component of all.
        high: The largest.
        dead: Dimensions that are the same in all rows, or all but so, the first ten.
        n_dead: How many there are.
        widest: Those with the largest deviation.
        constant_vectors: Rows all of whose components are the same number.
    """

    total: int
    rows: int
    blocks: int
    of_blocks: int
    mean_length: float
    mean_cosine: float | None
    spectrum: Spectrum | None
    low: float
    high: float
    dead: list[Dimension]
    n_dead: int
    widest: list[Dimension]
    constant_vectors: int


@dataclass(frozen=True)
class DimensionFigures:
    """The section's entry of the report."""

    dimensions: Dimensions


def effective_rank(weights: NDArray[np.float64], epsilon: float = 0.0) -> float:
    """Returns exp of the entropy of weights, each taken as its share of their sum.

    Args:
        weights: Numbers >= 0, not all 0, shape (n,).
        epsilon: What is added to each share, as RankMe does.
    """
    shares = weights / weights.sum() + epsilon
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def spectrum_of(moments: SecondMoments) -> Spectrum | None:
    """Says how the variance of directions is spread; None where that is not known."""
    if moments.count < 2 or not len(moments.products):
        return None
    variances = np.clip(np.linalg.eigvalsh(moments.covariance)[::-1], 0, None)
    # Singular values of n vectors are roots of n times the eigenvalues of their second moment.
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(moments.second_moment), 0, None))
    variance = float(variances.sum())
    rankme = effective_rank(singular, _RANKME_EPSILON)
    if variance <= _COLLAPSED:
        return Spectrum(0.0, 0.0, [], {name: 0 for name, _ in _EXPLAINED}, 1.0, rounded(rankme))
    shares = variances / variance
    summed = np.cumsum(shares)
    return Spectrum(
        variance=rounded(variance),
        first_share=rounded(shares[0]),
        explained=[rounded(share) for share in shares[:_SHOWN]],
        components={
            name: int(np.searchsorted(summed, part - 1e-9)) + 1 for name, part in _EXPLAINED
        },
        effective_rank=rounded(effective_rank(variances)),
        rankme=rounded(rankme),
    )


def rounded(value: float) -> float:
    """Rounds so that how a library adds cannot change a report: to six significant digits."""
    return float(f"{value:.6g}")


def _figures(statistic: Nothing, facts: Facts) -> DimensionFigures:
    examined = facts.examined
    assert examined is not None, "else the section is left out"
    moments = examined.moments
    deviations = _deviations(moments)
    order = np.argsort(-deviations, kind="stable")
    usual = float(np.median(deviations))
    dead = np.flatnonzero((moments.low == moments.high) | (deviations < ALL_BUT_CONSTANT * usual))
    # Of one row, or equal ones, every dimension is the same, and none is to blame for it.
    dead = dead if len(dead) < len(deviations) else dead[:0]

    def told(place: int) -> Dimension:
        low, high = float(moments.low[place]), float(moments.high[place])
        return Dimension(place, rounded(low), rounded(high), rounded(deviations[place]))

    return DimensionFigures(
        Dimensions(
            total=len(moments.low),
            rows=moments.count,
            blocks=examined.blocks,
            of_blocks=examined.of_blocks,
            mean_length=rounded(float(np.sqrt(np.square(moments.mean).sum()))),
            mean_cosine=_rounded_or_none(moments.mean_cosine),
            spectrum=spectrum_of(moments),
            low=rounded(float(moments.low.min())),
            high=rounded(float(moments.high.max())),
            dead=[told(place) for place in dead[:_SHOWN].tolist()],
            n_dead=len(dead),
            widest=[told(place) for place in order[:_SHOWN].tolist()],
            constant_vectors=moments.constant if len(moments.low) > 1 else 0,
        )
    )


def _deviations(moments: SecondMoments) -> NDArray[np.float64]:
    if not len(moments.products):
        # Without products the range says which dimensions are wide, and which say nothing.
        return (moments.high - moments.low).astype(np.float64)
    return np.sqrt(np.clip(np.diag(moments.covariance), 0, None))


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _findings(figures: DimensionFigures, facts: Facts) -> Iterator[Finding]:
    found = figures.dimensions
    spectrum = found.spectrum
    texts = facts.account.rows - facts.repeats.rows
    if spectrum is not None and spectrum.variance == 0 and texts >= _FEW_TEXTS:
        yield Finding(
            level="error",
            text=f"All {noun(found.rows, 'vector')} point the same way: they tell no text from "
            "another. Is the pooling the model's own, and were its weights loaded?",
        )
    if found.n_dead:
        numbers = ", ".join(str(one.dimension) for one in found.dead)
        more = f" and {count(found.n_dead - len(found.dead))} more" if found.n_dead > _SHOWN else ""
        few = found.n_dead <= _DEAD_OF_MODELS * found.total
        yield Finding(
            level="note" if few else "warning",
            text=f"{noun(found.n_dead, 'dimension')} of {count(found.total)} "
            f"{'is' if found.n_dead == 1 else 'are'} the same in every row or all but so "
            f"(number {numbers}{more}, counted from 0): they cost room and say nothing. "
            + (
                "Some models have a few, as all-MiniLM-L6-v2 has three."
                if few
                else "Weights that were lost or filled up look like that."
            ),
        )
    if found.constant_vectors:
        yield Finding(
            level="warning",
            text=f"{noun(found.constant_vectors, 'vector')} have the same number in every "
            "dimension, which no model says of a text.",
        )
    if (
        spectrum is not None
        and found.total > 2
        and found.rows >= _FEW_ROWS
        and spectrum.first_share >= _ONE_DIRECTION
    ):
        yield Finding(
            level="note",
            text=f"{percent(spectrum.first_share)} of the variance lies along one direction: most "
            "of what tells vectors apart is one property, such as length, language or source.",
        )


SECTION = Section(
    __file__,
    Nothing,
    _figures,
    _findings,
    columns=("embedding",),
    applies=lambda facts: facts.has_examined_vectors,
)
