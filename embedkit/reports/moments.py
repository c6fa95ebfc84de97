"""Count, mean, variance and extremes of a stream of numbers, mergeable."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of n numbers in float64.

    Attributes:
        count: n.
        mean: Their mean; 0 where there are none.
        m2: Sum of squared distances from the mean.
        low: The smallest; infinity where there are none.
        high: The largest; minus infinity where there are none.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Takes the moments of finite numbers, shape (n,)."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        spread = float(np.square(values - mean).sum())
        return cls(len(values), mean, spread, float(values.min()), float(values.max()))

    def __add__(self, other: Self) -> Self:
        """Returns the moments of both sets of numbers.

        The update of Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm
        for computing sample variances", which loses no digits when the means lie close together.
        """
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta * delta * (self.count * (other.count / count))
        low, high = min(self.low, other.low), max(self.high, other.high)
        return type(self)(count, mean, m2, low, high)

    @property
    def deviation(self) -> float:
        """Standard deviation of the n numbers themselves, not of a population they stand for."""
        return math.sqrt(self.m2 / self.count) if self.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain numbers for JSON, which knows no infinity: None instead."""
        known = self.count > 0
        return {
            "count": self.count,
            "mean": self.mean,
            "m2": self.m2,
            "low": self.low if known else None,
            "high": self.high if known else None,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Reads back what ``to_dict`` gave."""
        return cls(**data) if data["count"] else cls()
