"""How histograms are cut into the bars of a chart."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.histogram import Histogram, lowest_values

_MOST_BARS = 40


class Bars(TypedDict):
    """The bars of a chart.

    Attributes:
        edges: Bar i counts ``edges[i] <= value < edges[i + 1]``; the last bar its end as well.
        counts: Values per bar.
    """

    edges: list[float]
    counts: list[int]


def length_edges(lengths: Histogram, longest: int) -> NDArray[np.float64]:
    """Chooses bars for token lengths, whole numbers with a long tail.

    Bars are equally wide where the longest row is not far from the usual one; else each is a
    quarter of an octave, so that the tail can be seen without pressing the rest into one bar.
    Edges are whole numbers, and a power of two closes a bar, since models' limits are such.
    """
    if longest <= max(_MOST_BARS, 4 * lengths.quantile(0.5)):
        step = _nice_step(longest / _MOST_BARS)
        return np.arange(0, longest + step, step, dtype=np.float64) + 1
    shortest = max(1.0, lengths.quantile(0))
    steps = np.arange(np.floor(np.log2(shortest)) * 4 - 1, np.ceil(np.log2(longest)) * 4 + 1)
    edges = np.unique(np.floor(2 ** (steps / 4))) + 1
    first = int(np.searchsorted(edges, shortest, side="right")) - 1
    last = int(np.searchsorted(edges, longest, side="right"))
    return edges[max(0, first) : last + 1]


def norm_bars(norms: Histogram) -> Bars | None:
    """Chooses at most 40 equally wide bars for norms; None where they are all but equal."""
    if len(norms.bins) == 0 or norms.bins[-1] - norms.bins[0] < 4:
        return None
    low, high = lowest_values(np.array([norms.bins[0], norms.bins[-1] + 1]))
    last_bin = high - lowest_values(norms.bins[-1:])[0]
    # Every bin begins at a multiple of its width, a power of two, and none is wider than the last:
    # at multiples of a larger power of two no edge falls inside a bin.
    step = max(last_bin, 2.0 ** np.ceil(np.log2((high - low) / (_MOST_BARS - 1))))
    edges = np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step
    return Bars(edges=edges.tolist(), counts=norms.between(edges).tolist())


def score_bars(
    scores: NDArray[np.float64], counts: NDArray[np.int64], low: float, high: float
) -> Bars | None:
    """Chooses some 40 equally wide bars for scores; None where all are equal.

    Args:
        scores: Scores, rounded towards 0.
        counts: How many there are of each.
        low: The smallest score.
        high: The largest.
    """
    # Numbers as near to each other as those that a float32 tells apart give no bars of any width.
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-30):
        return None
    rough = (high - low) / _MOST_BARS
    unit = 10.0 ** np.floor(np.log10(rough))
    step = next(unit * nice for nice in (1, 2, 5, 10) if unit * nice >= rough * (1 - 1e-9))
    edges = np.arange(np.floor(low / step), np.floor(high / step) + 2) * step
    within = np.clip(scores, edges[0], edges[-1])
    held, _ = np.histogram(within, bins=edges, weights=counts)
    return Bars(edges=edges.tolist(), counts=held.astype(np.int64).tolist())


def cosine_edges(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chooses bars of 0.025 from the smallest cosine up to 1."""
    lowest = float(cosines.min(initial=1.0))
    first = int(np.floor(round(lowest * _MOST_BARS, 6)))
    return np.arange(min(first, _MOST_BARS - 1), _MOST_BARS + 1) / _MOST_BARS


def _nice_step(at_least: float) -> int:
    step = 1
    while step < at_least:
        step *= 2
    return step
