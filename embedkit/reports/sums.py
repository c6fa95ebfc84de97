"""Sums that come out the same bit for bit, however the numbers are grouped and ordered."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.packed import Integers

_BITS = 32
_FRACTION = (1 << _BITS) - 1


def _none() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class FixedSum:
    """Sums of many arrays of the same shape, in fixed-point numbers.

    Each array is rounded once, to multiples of 2**-32. Adding those is adding whole numbers, which
    rounds nothing. Components of unit vectors in float32 are known to 2**-25 at best.

    Attributes:
        whole: The sums rounded down, int64, shape (n,); (0,) where nothing was added.
        fraction: What was lost by that, in units of 2**-32, int64, shape (n,).
    """

    whole: Integers = field(default_factory=_none)
    fraction: Integers = field(default_factory=_none)

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Self:
        """Takes one array, shape (n,), of numbers below 2**62."""
        whole = np.floor(values)
        fraction = np.rint((values - whole) * (1 << _BITS)).astype(np.int64)
        return cls(whole.astype(np.int64) + (fraction >> _BITS), fraction & _FRACTION)

    def __add__(self, other: Self) -> Self:
        """Returns the sums of both.

        Raises:
            ValueError: Their shapes differ.
        """
        if not len(self.whole) or not len(other.whole):
            return self if len(self.whole) else other
        if len(self.whole) != len(other.whole):
            raise ValueError(f"sums of {len(self.whole)} and of {len(other.whole)} components")
        fraction = self.fraction + other.fraction
        whole = self.whole + other.whole + (fraction >> _BITS)
        return type(self)(whole, fraction & _FRACTION)

    @property
    def values(self) -> NDArray[np.float64]:
        """The sums, float64, shape (n,)."""
        return self.whole + self.fraction / (1 << _BITS)
