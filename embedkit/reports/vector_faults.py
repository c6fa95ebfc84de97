"""What sampled vectors of an input file, or of a value of metadata, have that no model gives them.

A weight that was lost, or a column that was filled up, in the making of one file hardly shows among
all rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.values import LEAST_SIZE, Coded
from embedkit.reports.vector_sample import SampledVectors, numbered

ALL_BUT_CONSTANT = 1e-4
"""Share of the usual deviation below which that of a dimension is as good as none."""

_CHANCE = 1e-6
"""How probable it may be that a dimension is the same in rows that were drawn from the others."""

_USED = 1e-2
"""Share of the usual deviation that a dimension has at least in others: what all but varies in no
row, as three dimensions of all-MiniLM-L6-v2, is not quite the same in texts of another kind.
"""

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class VectorFaults:
    """What the sampled rows with one value show, one row of each text.

    Attributes:
        texts: How many there are.
        equal: How many have exactly the vector of a sampled row with another text, whatever the
            value of that one.
        dead: How many dimensions are the same in all of them, or all but so, and are used by rows
            with other values; None of fewer than ``LEAST_SIZE`` texts, and where nobody asked.
    """

    texts: int = 0
    equal: int = 0
    dead: int | None = None

    def plus(self, other: "VectorFaults") -> "VectorFaults":
        """Returns the texts of both; nothing is said of their dimensions."""
        return VectorFaults(self.texts + other.texts, self.equal + other.equal)

    def minus(self, other: "VectorFaults") -> "VectorFaults":
        """Returns the texts that are not the other's; nothing is said of their dimensions."""
        return VectorFaults(self.texts - other.texts, self.equal - other.equal)


def vector_faults(rows: SampledVectors, values: Coded, dimensions: bool) -> dict[str, VectorFaults]:
    """Finds the faults of the vectors of each value.

    Args:
        rows: Rows whose vectors are finite and not zero.
        values: The value that each has.
        dimensions: Whether dimensions are looked at.

    Returns:
        The faults by the keys of the values that rows have.
    """
    doubled = np.flatnonzero(_of_several_texts(rows))
    kept = _one_of_each_text(rows.texts, values.codes)
    codes = values.codes[kept]
    equal_codes = values.codes[doubled]
    equal_codes = equal_codes[_one_of_each_text(rows.texts[doubled], equal_codes)]
    texts, equal = (
        np.bincount(found, minlength=len(values.keys)).tolist() for found in (codes, equal_codes)
    )

    lengths = lengths_of(rows.vectors)

    def dead(code: int) -> int | None:
        if not dimensions or texts[code] < LEAST_SIZE:
            return None
        return dead_dimensions(rows.vectors, lengths, kept[codes == code], kept[codes != code])

    return {
        key: VectorFaults(texts[code], equal[code], dead(code))
        for code, key in enumerate(values.keys)
        if texts[code]
    }


def _of_several_texts(rows: SampledVectors) -> NDArray[np.bool_]:
    """Returns whether a row with another text has the vector of each row, shape (n,)."""
    if not len(rows):
        return np.empty(0, np.bool_)
    numbers = numbered(rows.vectors)
    first = np.empty(len(rows), np.uint64)
    first[numbers] = rows.texts
    several = np.zeros(len(rows), np.bool_)
    several[numbers[rows.texts != first[numbers]]] = True
    return several[numbers]


def _one_of_each_text(texts: NDArray[np.uint64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the places of rows of which each text of each code has one, int64, shape (m,)."""
    order = np.lexsort((texts, codes))
    texts, codes = texts[order], codes[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (texts[1:] != texts[:-1]) | (codes[1:] != codes[:-1])
    return order[new]


def dead_dimensions(
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float64],
    ours: NDArray[np.int64],
    others: NDArray[np.int64],
) -> int:
    """Counts the dimensions that are the same in some vectors, and are used by others.

    What is the same in most of the others as well is no fault of these: if the values of all were
    drawn from the others, it would be so in less than one of a million cases.

    Args:
        vectors: Finite vectors that are not zero, float32, shape (n, d).
        lengths: Their lengths, shape (n,).
        ours: The places of some of them, int64.
        others: The places of others.

    Returns:
        How many; 0 where all of ours are equal, as no dimension is to blame for it then.
    """
    own = vectors[ours]
    low, high = own.min(axis=0), own.max(axis=0)
    deviations = _deviations(own)
    usual = float(np.median(deviations))
    dead = (low == high) | (deviations < ALL_BUT_CONSTANT * usual)
    if dead.all() or not len(others):
        return 0
    found = 0
    for dimension in np.flatnonzero(dead).tolist():
        values = vectors[others, dimension]
        inside = float(((values >= low[dimension]) & (values <= high[dimension])).mean())
        is_used = float((values / lengths[others]).std()) >= _USED * usual
        found += is_used and inside ** len(ours) < _CHANCE
    return found


def _deviations(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the standard deviations of the components of directions, float64, shape (d,)."""
    total, squares = np.zeros((2, vectors.shape[1]))
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = vectors[start : start + _ROWS_AT_ONCE]
        directions = rows / lengths_of(rows)[:, None]
        total += directions.sum(axis=0)
        squares += np.square(directions).sum(axis=0)
    mean = total / len(vectors)
    return np.sqrt(np.clip(squares / len(vectors) - np.square(mean), 0, None))


def lengths_of(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the lengths of vectors, float64, shape (n,)."""
    lengths: NDArray[np.float64] = np.sqrt(
        np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    )
    return lengths
