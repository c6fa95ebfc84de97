"""Whether the vectors tell texts apart: cosines within a sample, and on average over all rows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.bars import cosine_edges
from embedkit.reports.facts import Facts, Place
from embedkit.reports.measured import Measured
from embedkit.reports.neighbours import Comparison, compare
from embedkit.reports.phrasing import noun, percent, significant
from embedkit.reports.sample import SampledRow
from embedkit.reports.section import QUANTILES, Finding, Section, share
from embedkit.reports.sums import FixedSum

_NEAR_COPY = 0.95
_NEAR_COPIES = 0.1
_NARROW = 0.6
_SMALL_SAMPLE = 30


@dataclass(frozen=True)
class Directions:
    """Where the vectors point on average.

    Attributes:
        count: Finite, non-zero vectors.
        total: Their sum, each scaled to length 1.
    """

    count: int = 0
    total: FixedSum = field(default_factory=FixedSum)

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        count = int((measured.norms > 0).sum())
        return cls(count, FixedSum.of(measured.directions)) if count else cls()

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        return type(self)(self.count + other.count, self.total + other.total)

    @property
    def mean_cosine(self) -> float | None:
        """Mean cosine over all pairs of two different rows, exact; None for fewer than two.

        The squared length of a sum of n unit vectors is n plus twice the sum of its pairs' cosines.
        """
        if self.count < 2:
            return None
        total = self.total.values
        return float((total @ total - self.count) / (self.count * (self.count - 1)))


@dataclass(frozen=True)
class Cosines:
    """Cosines of the sample.

    Attributes:
        quantiles: By their names; empty without a cosine.
        counts: How many are between two of the common ``edges``.
    """

    quantiles: dict[str, float]
    counts: list[int]


@dataclass(frozen=True)
class Similarity:
    """How alike the vectors are.

    Attributes:
        sampled: Rows of the sample. One of many vectors is their sum, which has the direction of
            their mean.
        compared: Those that were compared with others.
        copies: Rows set aside because another has exactly their text.
        unusable: Rows set aside because they have no direction.
        siblings: Pairs left out because both are chunks of one document.
        mean_cosine: Of all pairs of the dataset's vectors.
        nearest: Of each row and its nearest neighbour.
        pairs: Of every pair.
        edges: Between which both are counted.
        near_copy_cosine: From which on two rows are near copies.
        near_copies: Share of rows with such a neighbour.
        closest: The closest pairs.
    """

    sampled: int
    compared: int
    copies: int
    unusable: int
    siblings: int
    mean_cosine: float | None
    nearest: Cosines
    pairs: Cosines
    edges: list[float]
    near_copy_cosine: float
    near_copies: float
    closest: list[dict[str, Any]]


@dataclass(frozen=True)
class SimilarityFigures:
    """The section's entries of the report."""

    similarity: Similarity


def _figures(statistic: Directions, facts: Facts) -> SimilarityFigures:
    found = compare(facts.sample)
    edges = cosine_edges(found.pairs)
    return SimilarityFigures(
        Similarity(
            sampled=found.sampled,
            compared=len(found.nearest),
            copies=found.copies,
            unusable=found.unusable,
            siblings=found.siblings,
            mean_cosine=statistic.mean_cosine,
            nearest=_cosines(found.nearest, edges),
            pairs=_cosines(found.pairs, edges),
            edges=edges.tolist(),
            near_copy_cosine=_NEAR_COPY,
            near_copies=share(int((found.nearest >= _NEAR_COPY).sum()), len(found.nearest)),
            closest=_closest(found, facts.place),
        )
    )


def _cosines(cosines: NDArray[np.float64], edges: NDArray[np.float64]) -> Cosines:
    counts, _ = np.histogram(cosines, bins=edges)
    quantiles = (
        {name: round(float(np.quantile(cosines, part)), 6) for name, part in QUANTILES}
        if len(cosines)
        else {}
    )
    return Cosines(quantiles, counts.tolist())


def _closest(found: Comparison, place: Place) -> list[dict[str, Any]]:
    def told(row: SampledRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "text": row.text,
            "source": row.source,
            "row_index": row.row_index,
            "line": row.line,
            "place": place(row.source, row.row_index, row.line),
            "n_tokens": row.n_tokens,
        }

    return [
        {"cosine": pair.cosine, "left": told(pair.left), "right": told(pair.right)}
        for pair in found.closest
    ]


def _findings(figures: SimilarityFigures, facts: Facts) -> Iterator[Finding]:
    similarity = figures.similarity
    if 0 < similarity.compared < _SMALL_SAMPLE:
        yield Finding(
            level="note",
            text=f"Only {noun(similarity.compared, 'row')} could be compared: take the figures "
            "on similarity as anecdotes.",
        )
    if similarity.near_copies >= _NEAR_COPIES:
        yield Finding(
            level="warning",
            text=f"{percent(similarity.near_copies)} of sampled rows have a near copy in the "
            f"sample (cosine {similarity.near_copy_cosine} or more with a different text): "
            "templates, boilerplate or repeated records.",
        )
    mean, of = similarity.mean_cosine, facts.dataset.get("granularity") or "row"
    if mean is not None and mean >= _NARROW:
        yield Finding(
            level="note",
            text=f"Two {of}s have a cosine of {significant(mean, 2)} on "
            "average: the vectors fill a narrow cone, so compare scores with each other, never "
            "with a fixed threshold.",
        )


SECTION = Section(__file__, Directions, _figures, _findings, columns=("embedding", "embeddings"))
