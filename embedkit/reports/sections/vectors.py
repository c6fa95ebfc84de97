"""Whether the vectors are fit to be compared: their norms, and those that have none."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from embedkit.quantization import QUANTIZED
from embedkit.reports.bars import Bars, norm_bars
from embedkit.reports.facts import Facts
from embedkit.reports.histogram import Histogram
from embedkit.reports.measured import Measured
from embedkit.reports.moments import Moments
from embedkit.reports.phrasing import count, noun, significant
from embedkit.reports.section import QUANTILES, Finding, Section

_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class VectorNorms:
    """Norms of the vectors.

    Attributes:
        norms: Of the finite vectors.
        histogram: The same as a histogram.
        non_finite: Vectors that hold a NaN or an infinity.
        zero: Vectors that are zero.
    """

    norms: Moments = field(default_factory=Moments)
    histogram: Histogram = field(default_factory=Histogram)
    non_finite: int = 0
    zero: int = 0

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        norms = measured.norms
        finite = norms[np.isfinite(norms)]
        return cls(
            norms=Moments.of(finite),
            histogram=Histogram.of(finite),
            non_finite=len(norms) - len(finite),
            zero=int((finite == 0).sum()),
        )

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        return type(self)(
            norms=self.norms + other.norms,
            histogram=self.histogram + other.histogram,
            non_finite=self.non_finite + other.non_finite,
            zero=self.zero + other.zero,
        )


@dataclass(frozen=True)
class Norms:
    """Norms of the finite vectors; the first four are None without one.

    Attributes:
        mean: Their mean.
        deviation: Their standard deviation.
        low: The smallest.
        high: The largest.
        quantiles: By their names.
        bars: What the chart shows; None where all are all but equal.
        non_finite: Vectors that hold a NaN or an infinity.
        zero: Vectors that are zero.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    quantiles: dict[str, float]
    bars: Bars | None
    non_finite: int
    zero: int


@dataclass(frozen=True)
class VectorCount:
    """How many vectors there are.

    Attributes:
        total: All of them, of which a row may have any number.
        of: What each is of where it is not a row: ``word`` or ``token``.
    """

    total: int
    of: str | None


@dataclass(frozen=True)
class VectorFigures:
    """The section's entries of the report."""

    norms: Norms
    vectors: VectorCount


def _figures(statistic: VectorNorms, facts: Facts) -> VectorFigures:
    moments, histogram = statistic.norms, statistic.histogram
    known = moments.count > 0
    return VectorFigures(
        Norms(
            mean=moments.mean if known else None,
            deviation=moments.deviation if known else None,
            low=moments.low,
            high=moments.high,
            quantiles={name: histogram.quantile(part) for name, part in QUANTILES},
            bars=norm_bars(histogram),
            non_finite=statistic.non_finite,
            zero=statistic.zero,
        ),
        VectorCount(moments.count + statistic.non_finite, facts.dataset.get("granularity")),
    )


def _findings(figures: VectorFigures, facts: Facts) -> Iterator[Finding]:
    norms, total = figures.norms, figures.vectors.total
    if norms.non_finite:
        yield Finding(
            level="error",
            text=f"{noun(norms.non_finite, 'vector')} of {count(total)} hold a NaN or an "
            "infinity. Most indexes refuse or misplace them.",
        )
    if norms.zero:
        yield Finding(
            level="warning",
            text=f"{noun(norms.zero, 'vector')} of {count(total)} are zero: they have no "
            "direction, and their cosine with anything is undefined.",
        )
    # What codes stand for has nearly the length of the vector.
    exact = facts.dataset.get("vector_dtype") not in QUANTIZED
    declared = exact and facts.dataset.get("normalized")
    if declared and norms.low is not None and norms.high is not None:
        off = max(abs(norms.low - 1), abs(norms.high - 1))
        if off > _NORM_TOLERANCE:
            yield Finding(
                level="error",
                text="The vectors are declared normalized, but a norm is off 1 by "
                f"{significant(off, 2)}: a dot product is not their cosine.",
            )


SECTION = Section(__file__, VectorNorms, _figures, _findings, columns=("embedding", "embeddings"))
