"""What the vectors of each input file, and of each value of metadata, say together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.reports.second_moments import ONE, scaled_rows
from embedkit.reports.values import coded, grouping_columns, merged

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a vector may be that is declared normalized."""

_MOST_COMPONENTS = 1 << 20
"""Components of the sums of a column's values together: 8 MiB."""


@dataclass(frozen=True, eq=False)
class VectorSums:
    """Sums over the vectors of some rows.

    Attributes:
        rows: Rows.
        non_finite: Rows whose vector holds a NaN or an infinity.
        zero: Rows whose vector is zero.
        off: Rows with another vector whose length is not 1.
        lengths: Sum of the lengths of the others in units of 2**-18, each rounded.
        total: Sum of their directions in units of 2**-18, int64, shape (d,), see ``SecondMoments``.
    """

    rows: int
    non_finite: int
    zero: int
    off: int
    lengths: int
    total: NDArray[np.int64]

    def plus(self, other: "VectorSums") -> "VectorSums":
        """Returns the sums over both."""
        return VectorSums(
            *(one + more for one, more in zip(*map(_fields, (self, other)), strict=True))
        )

    def minus(self, other: "VectorSums") -> "VectorSums":
        """Returns the sums over what is not the other."""
        return VectorSums(
            *(one - less for one, less in zip(*map(_fields, (self, other)), strict=True))
        )

    @property
    def directions(self) -> int:
        """How many of the vectors have a direction."""
        return self.rows - self.non_finite - self.zero

    @property
    def mean_length(self) -> float | None:
        """Mean length of the vectors that have a direction; None of none."""
        return self.lengths / (ONE * self.directions) if self.directions else None

    @property
    def mean_cosine(self) -> float | None:
        """Mean cosine of all pairs of two of them; None of fewer than two."""
        n = self.directions
        if n < 2:
            return None
        # Rounded directions may be longer than 1.
        return min(1.0, (float(np.square(self.total / ONE).sum()) - n) / (n * (n - 1)))

    def cosine_to(self, other: "VectorSums") -> float | None:
        """Mean cosine of the vectors to the mean direction of others; None where there is none."""
        length = float(np.linalg.norm(other.total / ONE))
        if not self.directions or not length:
            return None
        cosine = float((self.total / ONE) @ (other.total / ONE)) / (self.directions * length)
        return float(np.clip(cosine, -1, 1))


def _fields(sums: VectorSums) -> tuple[Any, ...]:
    return sums.rows, sums.non_finite, sums.zero, sums.off, sums.lengths, sums.total


@dataclass(frozen=True, eq=False)
class VectorGroups:
    """The vectors of some blocks by the values of some columns.

    A monoid: ``VectorGroups()`` and ``+``, exact, in any order and any groups.

    Attributes:
        by_column: For each column the sums of each value, by its key, see ``merged``.
    """

    by_column: Mapping[str, Mapping[str, VectorSums]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: pa.Table, vectors: NDArray[Any]) -> Self:
        """Takes the rows of one block.

        Args:
            rows: Their source and labels, as far as these were read.
            vectors: Their vectors, shape (n, d).
        """
        if not len(vectors):
            return cls()
        names = [name for name in grouping_columns(rows.schema) if name in rows.schema.names]
        values = {name: coded(rows.column(name).combine_chunks()) for name in names}
        sums = {name: _Sums(len(values[name].keys), vectors.shape[1]) for name in names}
        for places, directed, units, lengths in scaled_rows(vectors):
            for name in names:
                sums[name].add(values[name].codes[places][directed], units, lengths)
        finite = np.isfinite(vectors).all(axis=1)
        zero = finite & ~vectors.any(axis=1)
        by_column = {
            name: sums[name].by_key(values[name].keys, values[name].codes, finite, zero)
            for name in names
        }
        return cls(by_column)

    def __add__(self, other: Self) -> Self:
        """Returns what both say."""
        ours, theirs = self.by_column, other.by_column
        return type(self)({name: _both(ours, theirs, name) for name in sorted({*ours, *theirs})})


def _both(
    ours: Mapping[str, Mapping[str, VectorSums]],
    theirs: Mapping[str, Mapping[str, VectorSums]],
    name: str,
) -> dict[str, VectorSums]:
    some = next(iter((ours.get(name) or theirs[name]).values()))
    most = max(1, _MOST_COMPONENTS // len(some.total))
    return merged(ours.get(name, {}), theirs.get(name, {}), VectorSums.plus, most)


class _Sums:
    """Adds up the vectors of a block by a number that each has."""

    def __init__(self, groups: int, width: int) -> None:
        self._groups = groups
        self._totals = np.zeros((groups, width), np.int64)
        # Of Python's own numbers: vectors that are not normalized may be longer than int64 tells.
        self._lengths = np.zeros(groups, object)
        self._off = np.zeros(groups, np.int64)

    def add(
        self, codes: NDArray[np.int64], units: NDArray[np.float64], lengths: NDArray[np.float64]
    ) -> None:
        """Adds vectors that have a direction, which is a vector of whole numbers."""
        # Whole numbers: a matrix product of them is exact, in whatever order it adds.
        chosen = (codes == np.arange(self._groups)[:, None]).astype(np.float64)
        self._totals += (chosen @ units).astype(np.int64)
        np.add.at(self._lengths, codes, [int(length) for length in np.rint(lengths * ONE)])
        np.add.at(self._off, codes, np.abs(lengths - 1) > NORM_TOLERANCE)

    def by_key(
        self,
        keys: tuple[str, ...],
        codes: NDArray[np.int64],
        finite: NDArray[np.bool_],
        zero: NDArray[np.bool_],
    ) -> dict[str, VectorSums]:
        """Returns the sums of each number that rows have, by its key."""
        counts = [
            np.bincount(codes[rows], minlength=len(keys)).tolist()
            for rows in (np.ones(len(codes), np.bool_), ~finite, zero)
        ]
        return {
            key: VectorSums(
                rows, bad, empty, int(self._off[n]), int(self._lengths[n]), self._totals[n]
            )
            for n, (key, rows, bad, empty) in enumerate(zip(keys, *counts, strict=True))
            if rows
        }
