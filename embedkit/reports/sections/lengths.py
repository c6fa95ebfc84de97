"""How long the texts are, and how much of them the model did not see."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow.compute as pc

from embedkit.reports.bars import length_edges
from embedkit.reports.facts import Facts
from embedkit.reports.histogram import Histogram
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import count, percent
from embedkit.reports.section import QUANTILES, Finding, Section, share

_TRUNCATED_ROWS = 0.01
_UNKNOWN_TOKENS = 0.1


@dataclass(frozen=True)
class Lengths:
    """Tokens of the rows.

    Attributes:
        tokens: Tokens that the model saw, after truncation.
        n_tokens: Tokens before truncation.
        truncated: Rows that were longer than the model sees.
        longest: Tokens of the longest row before truncation.
        lengths: Tokens per row before truncation.
        unknown: Tokens that the model saw and that stand for unknown text, where these are counted.
    """

    tokens: int = 0
    n_tokens: int = 0
    truncated: int = 0
    longest: int = 0
    lengths: Histogram = field(default_factory=Histogram)
    unknown: int = 0

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        rows = measured.block.rows
        n_tokens = rows.column("n_tokens").to_numpy().astype(np.int64)
        return cls(
            tokens=int(np.minimum(n_tokens, measured.max_tokens).sum()),
            n_tokens=int(n_tokens.sum()),
            truncated=pc.sum(rows.column("truncated")).as_py() or 0,
            longest=int(n_tokens.max(initial=0)),
            lengths=Histogram.of(n_tokens),
            unknown=measured.unknown,
        )

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        return type(self)(
            tokens=self.tokens + other.tokens,
            n_tokens=self.n_tokens + other.n_tokens,
            truncated=self.truncated + other.truncated,
            longest=max(self.longest, other.longest),
            lengths=self.lengths + other.lengths,
            unknown=self.unknown + other.unknown,
        )

    @property
    def tokens_lost(self) -> int:
        """Tokens that truncation kept from the model."""
        return self.n_tokens - self.tokens


@dataclass(frozen=True)
class Truncation:
    """What the model did not see.

    Attributes:
        max_tokens: Tokens of a row that the model sees.
        rows: Rows longer than that.
        row_share: Their share of all rows.
        tokens_lost: Tokens beyond.
        token_share: Their share of all tokens.
    """

    max_tokens: int
    rows: int
    row_share: float
    tokens_lost: int
    token_share: float


@dataclass(frozen=True)
class Unknown:
    """What the model saw and does not know.

    Attributes:
        tokens: Tokens that stand for unknown text.
        token_share: Their share of the tokens that the model saw.
    """

    tokens: int
    token_share: float


@dataclass(frozen=True)
class LengthBars:
    """The bars of the chart.

    Attributes:
        edges: Bar i counts ``edges[i] <= tokens < edges[i + 1]``.
        counts: Rows per bar.
        truncated: Those of them that are longer than the model sees.
    """

    edges: list[int]
    counts: list[int]
    truncated: list[int]


@dataclass(frozen=True)
class Tokens:
    """Tokens per row.

    Attributes:
        total: All tokens, before truncation.
        seen: After truncation.
        mean: Per row.
        shortest: Of the shortest row.
        longest: Of the longest.
        quantiles: Per row, by their names.
        bars: What the chart shows.
    """

    total: int
    seen: int
    mean: float
    shortest: int
    longest: int
    quantiles: dict[str, int]
    bars: LengthBars


@dataclass(frozen=True)
class LengthFigures:
    """The section's entries of the report; ``unknown`` is None where nobody counted."""

    truncation: Truncation
    tokens: Tokens
    unknown: Unknown | None = None


def _figures(statistic: Lengths, facts: Facts) -> LengthFigures:
    max_tokens: int = facts.dataset["max_tokens"]
    lengths = statistic.lengths
    edges = length_edges(lengths, statistic.longest)
    return LengthFigures(
        truncation=Truncation(
            max_tokens=max_tokens,
            rows=statistic.truncated,
            row_share=share(statistic.truncated, lengths.total),
            tokens_lost=statistic.tokens_lost,
            token_share=share(statistic.tokens_lost, statistic.n_tokens),
        ),
        tokens=Tokens(
            total=statistic.n_tokens,
            seen=statistic.tokens,
            mean=share(statistic.n_tokens, lengths.total),
            shortest=int(lengths.quantile(0)),
            longest=statistic.longest,
            quantiles={name: int(lengths.quantile(part)) for name, part in QUANTILES},
            bars=LengthBars(
                edges=edges.astype(int).tolist(),
                counts=lengths.between(edges).tolist(),
                truncated=lengths.above(max_tokens).between(edges).tolist(),
            ),
        ),
        unknown=_unknown(statistic, facts),
    )


def _unknown(statistic: Lengths, facts: Facts) -> Unknown | None:
    if "unknown" not in facts.dataset:
        return None
    return Unknown(statistic.unknown, share(statistic.unknown, statistic.tokens))


def _findings(figures: LengthFigures, facts: Facts) -> Iterator[Finding]:
    truncation = figures.truncation
    if truncation.row_share >= _TRUNCATED_ROWS:
        yield Finding(
            level="warning",
            text=f"{percent(truncation.row_share)} of rows were longer than the model's "
            f"{count(truncation.max_tokens)} tokens and were truncated: "
            f"{percent(truncation.token_share)} of all tokens were not seen by the model. "
            "Consider chunking, or a model with a longer context.",
        )
    unknown = figures.unknown
    if unknown is not None and unknown.token_share >= _UNKNOWN_TOKENS:
        yield Finding(
            level="warning",
            text=f"{percent(unknown.token_share)} of the tokens are not in the model's vocabulary "
            "and say nothing of their own in the vectors. Consider vectors of the corpus's "
            "language and subject, or 'embedkit train', which makes them of a corpus.",
        )


SECTION = Section(__file__, Lengths, _figures, _findings)
