"""Mean and covariance of where vectors point, exact, and what each of their dimensions holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MOST_DIMENSIONS = 2048
"""Above it no products of dimensions are kept: 32 MiB."""

_BITS = 18
ONE = 1 << _BITS
"""A length of 1 in the units of whole directions."""

_ROWS_AT_ONCE = 1024


def _no_sums() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


def _no_products() -> NDArray[np.int64]:
    return np.empty((0, 0), np.int64)


def _no_values() -> NDArray[np.float32]:
    return np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Sums over vectors, each scaled to length 1, and the range of every dimension.

    A scaled component is rounded to a multiple of 2**-18, which is a hundredth of what float16
    rounds. Products of those are whole numbers, and so are their sums, which float64 holds without
    rounding for the 1,024 rows that are multiplied at once and int64 for 2**27 rows: the same comes
    out in whatever groups rows are added, and whatever threads a matrix product has.

    Attributes:
        count: Finite, non-zero vectors: n.
        total: Their sum in units of 2**-18, int64, shape (d,); (0,) without a vector.
        products: The sum of their outer products in units of 2**-36, int64, shape (d, d); (0, 0)
            without a vector, or with more than ``MOST_DIMENSIONS``.
        low: The smallest component of each dimension as it is stored, float32, shape (d,).
        high: The largest.
        constant: Vectors all of whose components are the same number, zero vectors among them.
    """

    count: int = 0
    total: NDArray[np.int64] = field(default_factory=_no_sums)
    products: NDArray[np.int64] = field(default_factory=_no_products)
    low: NDArray[np.float32] = field(default_factory=_no_values)
    high: NDArray[np.float32] = field(default_factory=_no_values)
    constant: int = 0

    @classmethod
    def of(cls, vectors: NDArray[Any]) -> Self:
        """Takes vectors, float32 or float16, shape (n, d); those that are not finite are left out.

        Costs n * d * d / 2 multiplications, some 12 microseconds a vector of 384 dimensions.
        """
        width = vectors.shape[1]
        total = np.zeros(width, np.int64)
        kept = width if width <= MOST_DIMENSIONS else 0
        products = np.zeros((kept, kept), np.int64)
        low = np.full(width, np.inf, np.float32)
        high = np.full(width, -np.inf, np.float32)
        count = constant = 0
        for rows, scaled in whole_directions(vectors):
            low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
            constant += int((rows == rows[:, :1]).all(axis=1).sum())
            if not len(scaled):
                continue
            count += len(scaled)
            total += scaled.sum(axis=0).astype(np.int64)
            if kept:
                products += (scaled.T @ scaled).astype(np.int64)
        if not np.isfinite(low).all():
            return cls()
        return cls(count, total, products, low, high, constant)

    def __add__(self, other: Self) -> Self:
        """Returns the sums over both.

        Raises:
            ValueError: Their vectors have other dimensions.
        """
        if not len(self.low) or not len(other.low):
            return self if len(self.low) else other
        if len(self.low) != len(other.low):
            raise ValueError(f"vectors of {len(self.low)} and of {len(other.low)} dimensions")
        return type(self)(
            self.count + other.count,
            self.total + other.total,
            self.products + other.products,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.constant + other.constant,
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean of the directions, float64, shape (d,)."""
        return self.total / (ONE * max(1, self.count))

    @property
    def mean_cosine(self) -> float | None:
        """Mean cosine of all pairs of two different vectors; None for fewer than two.

        The squared length of a sum of n unit vectors is n plus twice the sum of its pairs' cosines.
        """
        if self.count < 2:
            return None
        squared = float(np.square(self.total / ONE).sum())
        # Rounded directions may be longer than 1.
        return min(1.0, (squared - self.count) / (self.count * (self.count - 1)))

    @property
    def second_moment(self) -> NDArray[np.float64]:
        """The mean of the outer products, not about the mean, float64, shape (d, d)."""
        moment: NDArray[np.float64] = self.products / (float(ONE**2) * max(1, self.count))
        return moment

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance of the n directions themselves, float64, shape (d, d)."""
        return self.second_moment - np.outer(self.mean, self.mean)


def whole_directions(
    vectors: NDArray[Any],
) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """Yields rows that are finite, and the directions of those that have one as whole numbers.

    Args:
        vectors: Vectors, shape (n, d).

    Yields:
        Up to 1,024 finite rows as they are, at least one, and their directions in units of 2**-18,
        float64, shape (m, d), m less the rows of zeros.
    """
    for places, _, units, _ in scaled_rows(vectors):
        yield vectors[places], units


def scaled_rows(
    vectors: NDArray[Any],
) -> Iterator[
    tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]
]:
    """Yields the directions of vectors as whole numbers, and which rows they are of.

    Args:
        vectors: Vectors, shape (n, d).

    Yields:
        The places of up to 1,024 finite rows, at least one; which of them have a direction; these
        m directions in units of 2**-18, float64, shape (m, d); and their lengths, shape (m,).
    """
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = vectors[start : start + _ROWS_AT_ONCE]
        places = start + np.flatnonzero(np.isfinite(rows).all(axis=1))
        if not len(places):
            continue
        units = vectors[places].astype(np.float64)
        # einsum without BLAS: its sums do not depend on how many threads there are.
        lengths = np.sqrt(np.einsum("ij,ij->i", units, units))
        directed = lengths > 0
        units, lengths = units[directed], lengths[directed]
        units *= (ONE / lengths)[:, None]
        yield places, directed, np.rint(units, out=units), lengths
