"""Confidence intervals by the bootstrap: how far a figure moves when its items are drawn anew."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
_SEED = 0
_MOST_DRAWN = 1 << 22

Interval = tuple[float, float]
"""The lower and the upper end."""


def interval(
    count: int,
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval | None:
    """Returns the percentile interval of a statistic (Efron and Tibshirani, 1993, chapter 13).

    Draws are seeded, so the same items in the same order have the same interval.

    Args:
        count: How many items there are.
        statistic: Takes numbers of items, shape (draws, count), and returns the figure of each
            draw, shape (draws,); NaN where it has none, which is left out.
        resamples: How many draws.
        level: Share of the draws that the interval holds.

    Returns:
        The interval; None where no draw has a figure.
    """
    random = np.random.default_rng(_SEED)
    at_once = max(1, _MOST_DRAWN // max(1, count))
    figures = [
        statistic(random.integers(0, count, (min(at_once, resamples - start), count)))
        for start in range(0, resamples, at_once)
    ]
    found = np.concatenate(figures)
    found = found[~np.isnan(found)]
    if not len(found):
        return None
    outside = (1 - level) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    return float(low), float(high)


def interval_of_mean(values: NDArray[np.float64]) -> Interval | None:
    """Returns the interval of the mean of some values, shape (count,)."""
    return interval(len(values), lambda drawn: values[drawn].mean(axis=1))
