"""How many of a row's nearest neighbours are the same in two versions."""

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10

_QUERIES = 1000
_AT_ONCE = 128
_SAME = 9
"""Decimals in which two cosines must differ, as sums differ by the order of their terms."""


def neighbour_overlap(one: NDArray[np.float32], two: NDArray[np.float32]) -> float | None:
    """Returns the mean share of the ten nearest rows of a row that are the same in both.

    Args:
        one: Vectors, not zero, of rows that are in both versions, as they are in one, shape
            (n, d); the first thousand are looked at, and compared with all.
        two: As they are in the other, of perhaps another width.

    Returns:
        None of fewer than eleven rows.
    """
    if len(one) <= NEIGHBOURS:
        return None
    if np.array_equal(one, two):
        # Most nights, and all of the work there is.
        return 1.0
    sides = list(map(_units, (one, two)))
    shared = 0
    queries = min(_QUERIES, len(one))
    for start in range(0, queries, _AT_ONCE):
        near = [_nearest(side, start, min(start + _AT_ONCE, queries)) for side in sides]
        shared += sum(map(len, map(np.intersect1d, *near)))
    return shared / (queries * NEIGHBOURS)


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    found = vectors.astype(np.float64)
    found /= np.sqrt(np.einsum("ij,ij->i", found, found))[:, None]
    return found


def _nearest(units: NDArray[np.float64], start: int, end: int) -> NDArray[np.intp]:
    """Returns the ten nearest other rows of some, of equally near ones the first."""
    cosines = np.round(units[start:end] @ units.T, _SAME)
    cosines[np.arange(end - start), np.arange(start, end)] = -np.inf
    least = np.partition(cosines, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS, None]
    rows, others = np.nonzero(cosines >= least)
    order = np.lexsort((others, -cosines[rows, others], rows))
    starts = np.searchsorted(rows, np.arange(end - start))
    found: NDArray[np.intp] = others[order[starts[:, None] + np.arange(NEIGHBOURS)]]
    return found
