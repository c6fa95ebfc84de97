"""The nearest neighbours of every row among all others, exact, in bounded memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest of n rows, by cosine.

    Attributes:
        cosines: Descending, float32, shape (n, k).
        rows: Which rows they are of, int32, shape (n, k); of equal ones the first.
    """

    cosines: NDArray[np.float32]
    rows: NDArray[np.int32]


def nearest(units: NDArray[np.float32], k: int) -> Neighbours:
    """Compares every row with every other, 2,048 with 2,048 at once: 25 MiB.

    Args:
        units: Vectors of length 1, float32, shape (n, d), n > k.
        k: How many neighbours are wanted, at least one.
    """
    count = len(units)
    best = Neighbours(np.full((count, k), -np.inf, np.float32), np.zeros((count, k), np.int32))
    for one in range(0, count, _ROWS_AT_ONCE):
        for two in range(one, count, _ROWS_AT_ONCE):
            cosines = units[one : one + _ROWS_AT_ONCE] @ units[two : two + _ROWS_AT_ONCE].T
            if one == two:
                np.fill_diagonal(cosines, -np.inf)
            _take(best, one, cosines, two)
            if one != two:
                _take(best, two, cosines.T, one)
    return best


def _take(best: Neighbours, first: int, cosines: NDArray[np.float32], others: int) -> None:
    """Takes over what is nearer than the nearest so far.

    Args:
        best: The nearest so far; changed.
        first: The row that the first row of ``cosines`` is.
        cosines: Cosines, shape (m, o), in either order in memory.
        others: The row that their first column is.
    """
    k = best.cosines.shape[1]
    mine = slice(first, first + len(cosines))
    if np.isneginf(best.cosines[mine, -1]).any():
        kept = min(k, cosines.shape[1])
        columns = np.argpartition(cosines, cosines.shape[1] - kept, axis=1)[:, -kept:].reshape(-1)
        rows = np.repeat(np.arange(len(cosines)), kept)
    else:
        nearer = cosines > best.cosines[mine, -1:]
        # As they lie in memory: a copy with rows and columns exchanged takes longer than the rest.
        if nearer.flags.c_contiguous:
            rows, columns = np.divmod(np.flatnonzero(nearer), nearer.shape[1])
        else:
            columns, rows = np.divmod(np.flatnonzero(nearer.T), nearer.shape[0])
    touched = np.unique(rows)
    known = np.repeat(touched, k)
    every_row = np.concatenate([known, rows])
    values = np.concatenate([best.cosines[mine][touched].reshape(-1), cosines[rows, columns]])
    names = np.concatenate([best.rows[mine][touched].reshape(-1), others + columns])
    order = np.lexsort((names, -values, every_row))
    starts = np.searchsorted(every_row[order], touched)
    chosen = order[starts[:, None] + np.arange(k)]
    best.cosines[first + touched] = values[chosen]
    best.rows[first + touched] = names[chosen]
