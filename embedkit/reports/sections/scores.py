"""How the scores of pairs are spread, label by label."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.bars import Bars, score_bars
from embedkit.reports.facts import Facts
from embedkit.reports.histogram import Histogram
from embedkit.reports.measured import Measured
from embedkit.reports.moments import Moments
from embedkit.reports.phrasing import noun, percent, significant
from embedkit.reports.section import QUANTILES, Finding, Section, share

_TIED = 0.05
_MOST_LABELS = 12
"""Labels whose scores are shown."""


@dataclass(frozen=True)
class LabelScores:
    """The scores that pairs have for one label.

    Attributes:
        moments: Of all of them.
        above: Those of at least 0, as a histogram.
        below: How far the others are below 0.
        ends: How many are 0 or 1 to the last digit.
    """

    moments: Moments = field(default_factory=Moments)
    above: Histogram = field(default_factory=Histogram)
    below: Histogram = field(default_factory=Histogram)
    ends: int = 0

    @classmethod
    def of(cls, scores: NDArray[np.float32]) -> Self:
        """Takes scores, shape (n,)."""
        scores = scores[np.isfinite(scores)]
        return cls(
            moments=Moments.of(scores.astype(np.float64)),
            above=Histogram.of(scores[scores >= 0]),
            below=Histogram.of(-scores[scores < 0]),
            ends=int(((scores == 0) | (scores == 1)).sum()),
        )

    def __add__(self, other: Self) -> Self:
        """Returns those of both."""
        return type(self)(
            self.moments + other.moments,
            self.above + other.above,
            self.below + other.below,
            self.ends + other.ends,
        )

    @property
    def distribution(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores, ascending, and how many there are of each, to a part in a thousand."""
        values = np.concatenate([-self.below.values[::-1], self.above.values])
        return values, np.concatenate([self.below.counts[::-1], self.above.counts])


@dataclass(frozen=True)
class Scores:
    """The scores of pairs.

    Attributes:
        labels: For each label; none where there is no row.
    """

    labels: tuple[LabelScores, ...] = ()

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        if not measured.block.rows.num_rows:
            return cls()
        return cls(tuple(map(LabelScores.of, measured.block.vectors.stacked.T)))

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        if not self.labels or not other.labels:
            return self if self.labels else other
        both = zip(self.labels, other.labels, strict=True)
        return type(self)(tuple(one + two for one, two in both))


@dataclass(frozen=True)
class ScoresOfLabel:
    """The scores for one label.

    Attributes:
        label: Its name.
        count: How many there are.
        mean: Their mean.
        deviation: Their standard deviation.
        low: The smallest.
        high: The largest.
        quantiles: By their names.
        bars: What the chart shows; None where all are equal.
        ends: Share of them that are 0 or 1 to the last digit.
    """

    label: str
    count: int
    mean: float
    deviation: float
    low: float
    high: float
    quantiles: dict[str, float]
    bars: Bars | None
    ends: float


@dataclass(frozen=True)
class ScoreFigures:
    """The section's entries of the report."""

    scores: list[ScoresOfLabel]


def _figures(statistic: Scores, facts: Facts) -> ScoreFigures:
    names = str(facts.dataset.get("labels", "")).split(", ")
    if len(names) != len(statistic.labels):
        names = [str(number) for number in range(len(statistic.labels))]
    found = zip(names, statistic.labels, strict=True)
    shown = [(name, label) for name, label in found if label.moments.count][:_MOST_LABELS]
    return ScoreFigures([_of_label(name, label) for name, label in shown])


def _of_label(name: str, scores: LabelScores) -> ScoresOfLabel:
    moments = scores.moments
    values, counts = scores.distribution
    low, high = moments.low or 0.0, moments.high or 0.0
    ranks = np.cumsum(counts)
    places = {
        quantile: int(np.searchsorted(ranks, max(1, math.ceil(part * moments.count))))
        for quantile, part in QUANTILES
    }
    return ScoresOfLabel(
        label=name,
        count=moments.count,
        mean=moments.mean,
        deviation=moments.deviation,
        low=low,
        high=high,
        quantiles={quantile: float(values[place]) for quantile, place in places.items()},
        bars=score_bars(values, counts, low, high),
        ends=share(scores.ends, moments.count),
    )


def _findings(figures: ScoreFigures, facts: Facts) -> Iterator[Finding]:
    for one in figures.scores:
        of_label = f" for {one.label}" if len(figures.scores) > 1 else ""
        if one.count > 1 and one.low == one.high:
            yield Finding(
                level="warning",
                text=f"All {noun(one.count, 'score')}{of_label} are {significant(one.low)}: the "
                "model tells no pair from another. Is it trained for pairs?",
            )
        elif one.ends > _TIED:
            yield Finding(
                level="note",
                text=f"{percent(one.ends)} of scores{of_label} are 0 or 1 to the last digit, so "
                "these pairs have no order among themselves.",
            )


SECTION = Section(__file__, Scores, _figures, _findings, columns=("score", "scores"))
