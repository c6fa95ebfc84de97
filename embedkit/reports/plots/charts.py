"""The charts of a report."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from embedkit.reports.phrasing import count, noun, percent, significant
from embedkit.reports.plots.bars import Series, Tick, bar_chart
from embedkit.reports.plots.colours import BACK, MAIN, OTHER
from embedkit.reports.plots.document import Plots
from embedkit.reports.plots.map import map_plot, map_values
from embedkit.reports.plots.map_rows import MapRows

_MOST_TICKS = 9
_COUNTS, _SHARES = "0,0", "0 %"


class Charts:
    """Draws the charts of one page."""

    def __init__(self, plots: Plots) -> None:
        self._plots = plots

    def length_chart(self, tokens: Mapping[str, Any], max_tokens: int) -> Markup:
        """Draws how long rows are, with what the model did not see in another colour.

        Args:
            tokens: The report's section of that name.
            max_tokens: Tokens of a row that the model sees.
        """
        edges, counts = tokens["bars"]["edges"], tokens["bars"]["counts"]
        over = tokens["bars"]["truncated"]
        whole = [every - some for every, some in zip(counts, over, strict=True)]
        rows = max(1, sum(counts))
        told = [
            f"{_tokens(low, high - 1)}: {noun(held, 'row')} ({percent(held / rows)})"
            for low, high, held in zip(edges, edges[1:], counts, strict=False)
        ]
        quantiles = tokens["quantiles"]
        plot = bar_chart(
            [Series(MAIN, whole), Series(OTHER, over, stacked=True)],
            told,
            _length_ticks(edges),
            "tokens per row, before truncation",
            _COUNTS,
            _mark(edges, max_tokens),
        )
        return self._plots.place(
            plot,
            f"Histogram of tokens per row: half of the rows have up to {count(quantiles['p50'])}, "
            f"95 percent up to {count(quantiles['p95'])}, the longest {count(tokens['longest'])}; "
            f"the model sees {count(max_tokens)}.",
        )

    def norm_chart(self, norms: Mapping[str, Any]) -> Markup:
        """Draws the lengths of the vectors, whose ``bars`` must be there."""
        return self._values_chart(norms, "vector norms", "norm", "norm of the vector", "row")

    def score_chart(self, scores: Mapping[str, Any]) -> Markup:
        """Draws the scores of pairs for a label, whose ``bars`` must be there."""
        return self._values_chart(scores, "scores", "score", "score", "pair")

    def _values_chart(
        self, values: Mapping[str, Any], several: str, one: str, axis: str, counted: str
    ) -> Markup:
        """Draws a histogram of values, of which ``counted`` has one each."""
        edges, counts = values["bars"]["edges"], values["bars"]["counts"]
        total = max(1, sum(counts))
        told = [
            f"{one} {significant(low)} to {significant(high)}: {noun(held, counted)} "
            f"({percent(held / total)})"
            for low, high, held in zip(edges, edges[1:], counts, strict=False)
        ]
        plot = bar_chart([Series(MAIN, counts)], told, _round_ticks(edges), axis, _COUNTS)
        return self._plots.place(
            plot,
            f"Histogram of {several}, from {significant(values['low'])} to "
            f"{significant(values['high'])}, {significant(values['mean'])} on average.",
        )

    def cosine_chart(self, similarity: Mapping[str, Any]) -> Markup:
        """Draws the cosines of nearest neighbours over those of all pairs, as shares of each."""
        edges = similarity["edges"]
        near, pairs = (_shares(similarity[name]["counts"]) for name in ("nearest", "pairs"))
        told = [
            f"cosine {low:.3f} to {high:.3f}: nearest neighbour of {percent(one)} of rows, "
            f"{percent(other)} of all pairs"
            for low, high, one, other in zip(edges, edges[1:], near, pairs, strict=False)
        ]
        plot = bar_chart(
            [Series(BACK, pairs), Series(MAIN, near, sheer=True)],
            told,
            _round_ticks(edges, lambda cosine: f"{cosine:.2f}".removesuffix("0")),
            "cosine",
            _SHARES,
        )
        return self._plots.place(
            plot,
            "Histogram of cosines: half of the pairs of different texts reach "
            f"{similarity['pairs']['quantiles']['p50']:.2f}, half of the nearest neighbours "
            f"{similarity['nearest']['quantiles']['p50']:.2f}.",
        )

    def map_chart(self, rows: MapRows) -> Markup:
        """Draws the map of the rows, see ``map_plot.html.jinja`` for what stands around it."""
        self._plots.hold("map-data", map_values(rows))
        return self._plots.place(map_plot(rows), f"Map of {noun(len(rows.x), 'row')}.")


def _shares(counts: Sequence[int]) -> list[float]:
    total = max(1, sum(counts))
    return [held / total for held in counts]


def _tokens(low: int, high: int) -> str:
    if low == high:
        return noun(low, "token")
    return f"{count(low)} to {count(high)} tokens"


def _round_ticks(edges: Sequence[float], write: Callable[[float], str] = significant) -> list[Tick]:
    """Takes round numbers from an axis of equally wide bars."""
    low, high, bars = edges[0], edges[-1], len(edges) - 1
    if high <= low:
        return []
    rough = (high - low) / _MOST_TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * nice for nice in (1, 2, 5, 10) if unit * nice >= rough * (1 - 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [Tick((step * n - low) / (high - low) * bars, write(step * n)) for n in numbers]


def _length_ticks(edges: Sequence[int]) -> list[Tick]:
    """Takes powers of two where bars grow wider; a label says how long the rows before it are."""
    bars = len(edges) - 1
    if bars < 1 or edges[-1] - edges[-2] == edges[1] - edges[0]:
        ticks = _round_ticks([edge - 1 for edge in edges], lambda value: f"{value:,g}")
        return [tick for tick in ticks if "." not in tick.label]
    return [
        Tick(place, count(edge - 1))
        for place, edge in enumerate(edges)
        if edge > 1 and math.log2(edge - 1).is_integer()
    ]


def _mark(edges: Sequence[int], max_tokens: int) -> Tick | None:
    limit = max_tokens + 1
    for place, (low, high) in enumerate(pairwise(edges)):
        if low <= limit < high:
            inside = (limit - low) / (high - low)
            return Tick(place + inside, f"the model sees {count(max_tokens)}")
    return None
