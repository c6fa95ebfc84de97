"""The charts of a report."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from embedkit.reports.phrasing import count, noun, percent, significant
from embedkit.reports.svg import Series, Tick, bar_chart

_MOST_TICKS = 9


def length_chart(tokens: Mapping[str, Any], max_tokens: int) -> Markup:
    """Draws how long rows are, with what the model did not see in another colour.

    Args:
        tokens: The report's section of that name.
        max_tokens: Tokens of a row that the model sees.
    """
    edges, counts = tokens["bars"]["edges"], tokens["bars"]["counts"]
    over = tokens["bars"]["truncated"]
    whole = [every - some for every, some in zip(counts, over, strict=True)]
    rows = max(1, sum(counts))
    tooltips = [
        f"{_tokens(low, high - 1)}: {noun(held, 'row')} ({percent(held / rows)})"
        for low, high, held in zip(edges, edges[1:], counts, strict=False)
    ]
    quantiles = tokens["quantiles"]
    return bar_chart(
        f"Histogram of tokens per row: half of the rows have up to {count(quantiles['p50'])}, "
        f"95 percent up to {count(quantiles['p95'])}, the longest {count(tokens['longest'])}; "
        f"the model sees {count(max_tokens)}.",
        [
            Series("seen whole", "main", whole),
            Series("truncated", "other", over, stacked=True),
        ],
        tooltips,
        _length_ticks(edges),
        "tokens per row, before truncation",
        lambda height: noun(round(height), "row"),
        _mark(edges, max_tokens),
    )


def norm_chart(norms: Mapping[str, Any]) -> Markup:
    """Draws the lengths of the vectors, whose ``bars`` must be there."""
    return _values_chart(norms, "vector norms", "norm", "norm of the vector", "row")


def score_chart(scores: Mapping[str, Any]) -> Markup:
    """Draws the scores of pairs for a label, whose ``bars`` must be there."""
    return _values_chart(scores, "scores", "score", "score", "pair")


def _values_chart(
    values: Mapping[str, Any], several: str, one: str, axis: str, counted: str
) -> Markup:
    """Draws a histogram of values, of which ``counted`` has one each."""
    edges, counts = values["bars"]["edges"], values["bars"]["counts"]
    total = max(1, sum(counts))
    tooltips = [
        f"{one} {significant(low)} to {significant(high)}: {noun(held, counted)} "
        f"({percent(held / total)})"
        for low, high, held in zip(edges, edges[1:], counts, strict=False)
    ]
    return bar_chart(
        f"Histogram of {several}, from {significant(values['low'])} to "
        f"{significant(values['high'])}, {significant(values['mean'])} on average.",
        [Series(f"{counted}s", "main", counts)],
        tooltips,
        _round_ticks(edges[0], edges[-1]),
        axis,
        lambda height: noun(round(height), counted),
    )


def cosine_chart(similarity: Mapping[str, Any]) -> Markup:
    """Draws the cosines of nearest neighbours over those of all pairs, as shares of each."""
    edges = similarity["edges"]
    near, pairs = (_shares(similarity[name]["counts"]) for name in ("nearest", "pairs"))
    tooltips = [
        f"cosine {low:.3f} to {high:.3f}: nearest neighbour of {percent(one)} of rows, "
        f"{percent(other)} of all pairs"
        for low, high, one, other in zip(edges, edges[1:], near, pairs, strict=False)
    ]
    return bar_chart(
        "Histogram of cosines: half of the pairs of different texts reach "
        f"{similarity['pairs']['quantiles']['p50']:.2f}, half of the nearest neighbours "
        f"{similarity['nearest']['quantiles']['p50']:.2f}.",
        [Series("all pairs", "back", pairs), Series("nearest neighbour", "main sheer", near)],
        tooltips,
        _round_ticks(edges[0], edges[-1], lambda cosine: f"{cosine:.2f}".removesuffix("0")),
        "cosine",
        lambda height: f"{100 * height:g} %",
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = max(1, sum(counts))
    return [held / total for held in counts]


def _tokens(low: int, high: int) -> str:
    if low == high:
        return noun(low, "token")
    return f"{count(low)} to {count(high)} tokens"


def _round_ticks(
    low: float, high: float, write: Callable[[float], str] = significant
) -> list[Tick]:
    """Takes round numbers from an axis of equally wide bars."""
    if high <= low:
        return []
    rough = (high - low) / _MOST_TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * nice for nice in (1, 2, 5, 10) if unit * nice >= rough * (1 - 1e-9))
    numbers = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [Tick((step * n - low) / (high - low), write(step * n)) for n in numbers]


def _length_ticks(edges: Sequence[int]) -> list[Tick]:
    """Takes powers of two where bars grow wider; a label says how long the rows before it are."""
    bars = len(edges) - 1
    if bars < 1 or edges[-1] - edges[-2] == edges[1] - edges[0]:
        ticks = _round_ticks(edges[0] - 1, edges[-1] - 1, lambda value: f"{value:,g}")
        return [tick for tick in ticks if "." not in tick.label]
    return [
        Tick(place / bars, count(edge - 1))
        for place, edge in enumerate(edges)
        if edge > 1 and math.log2(edge - 1).is_integer()
    ]


def _mark(edges: Sequence[int], max_tokens: int) -> Tick | None:
    limit = max_tokens + 1
    for place, (low, high) in enumerate(pairwise(edges)):
        if low <= limit < high:
            inside = (limit - low) / (high - low)
            return Tick((place + inside) / (len(edges) - 1), f"the model sees {count(max_tokens)}")
    return None
