"""Count, mean, variance and extremes of a stream of numbers, mergeable."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_BITS = 96


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of n numbers.

    Of each array that is taken, mean and variance are computed in float64. Sums of arrays are kept
    as whole numbers, so that adding loses no digits, even where the means lie close together, and
    comes out the same however the arrays are grouped and ordered.

    Attributes:
        count: n.
        total: Their sum in units of 2**-96.
        squares: The sum of their squares in units of 2**-192.
        low: The smallest; None where there are none.
        high: The largest; None where there are none.
    """

    count: int = 0
    total: int = 0
    squares: int = 0
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Takes the moments of finite numbers below 1e100, shape (n,)."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        m2 = float(np.square(values - mean).sum())
        return cls.around(len(values), mean, m2, float(values.min()), float(values.max()))

    @classmethod
    def around(cls, count: int, mean: float, m2: float, low: float, high: float) -> Self:
        """Takes moments that are known.

        Args:
            count: How many numbers there are; at least one.
            mean: Their mean.
            m2: The sum of their squared distances from it.
            low: The smallest.
            high: The largest.
        """
        middle = round(math.ldexp(mean, _BITS))
        squares = round(math.ldexp(m2, 2 * _BITS)) + count * middle * middle
        return cls(count, count * middle, squares, low, high)

    def __add__(self, other: Self) -> Self:
        """Returns the moments of both sets of numbers."""
        return type(self)(
            count=self.count + other.count,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            low=min(_known(self.low, other.low), default=None),
            high=max(_known(self.high, other.high), default=None),
        )

    @property
    def mean(self) -> float:
        """Their mean; 0 where there are none."""
        return self.total / (self.count << _BITS) if self.count else 0.0

    @property
    def m2(self) -> float:
        """Sum of squared distances from the mean."""
        if not self.count:
            return 0.0
        return (self.squares * self.count - self.total**2) / (self.count << 2 * _BITS)

    @property
    def deviation(self) -> float:
        """Standard deviation of the n numbers themselves, not of a population they stand for."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]
