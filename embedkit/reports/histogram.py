"""A histogram whose bins are the same everywhere, so that any merge of parts is exact."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.packed import Ascending, Integers

_SHIFT = 13
"""Low bits of a float32 that a bin ignores; ten bits of the mantissa stay."""


def _none() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values >= 0 in bins that depend on nothing but the value.

    A bin is the float32 form of a value without its 13 lowest bits: whole numbers up to 2,048
    have a bin each, and larger or broken values share one with what is within 0.1 %. Adding two
    histograms adds counts, so it is exact, associative and commutative; the quantile sketches of
    ``datasketches`` are smaller but either draw random numbers (KLL, REQ) or depend on the order
    of merges (t-digest), and a report must come out the same twice.

    Attributes:
        bins: Numbers of the bins that hold anything, ascending, int64, shape (b,).
        counts: What they hold, int64, shape (b,).
    """

    bins: Ascending = field(default_factory=_none)
    counts: Integers = field(default_factory=_none)

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Counts finite numbers >= 0, shape (n,)."""
        singles = np.minimum(values, np.finfo(np.float32).max).astype(np.float32)
        bins, counts = np.unique(singles.view(np.uint32) >> _SHIFT, return_counts=True)
        return cls(bins.astype(np.int64), counts.astype(np.int64))

    def __add__(self, other: Self) -> Self:
        """Returns the histogram of both sets of values."""
        bins, place = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(len(bins), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return type(self)(bins, counts)

    def __eq__(self, other: object) -> bool:
        """Tells whether both hold the same counts in the same bins."""
        return (
            isinstance(other, Histogram)
            and np.array_equal(self.bins, other.bins)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def values(self) -> NDArray[np.float64]:
        """The lowest value of each bin, float64, shape (b,)."""
        return lowest_values(self.bins)

    def quantile(self, share: float) -> float:
        """Returns the smallest value that at least ``share`` of all values do not exceed.

        Exact for whole numbers up to 2,048; elsewhere the lowest value of the right bin. 0 where
        nothing was counted.
        """
        if not len(self.bins):
            return 0.0
        rank = max(1, int(np.ceil(share * self.total)))
        return float(self.values[np.searchsorted(np.cumsum(self.counts), rank)])

    def between(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the counts of ``edges[i] <= value < edges[i + 1]``, shape (len(edges) - 1,)."""
        below = np.concatenate([[0], np.cumsum(self.counts)])
        counts: NDArray[np.int64] = np.diff(below[np.searchsorted(self.values, edges)])
        return counts

    def above(self, value: float) -> Self:
        """Returns the histogram of the bins that begin above a value."""
        kept = self.values > value
        return type(self)(self.bins[kept], self.counts[kept])


def lowest_values(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the lowest value of each bin; a bin ends where the next number's begins."""
    bits: NDArray[np.uint32] = bins.astype(np.uint32) << np.uint32(_SHIFT)
    values = bits.view(np.float32).astype(np.float64)
    # Where the last bin of finite numbers ends.
    values[np.isposinf(values)] = 2.0**128
    return values
