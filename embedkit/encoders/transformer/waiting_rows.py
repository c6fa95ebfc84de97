"""Rows that wait to be placed, of which the longest that fit are taken first."""

import numpy as np
from numpy.typing import NDArray


class WaitingRows:
    """Rows that wait to be placed.

    Args:
        lengths: Tokens of every row of a batch, shape (rows,).
        rows: Numbers of those that wait.
    """

    def __init__(self, lengths: NDArray[np.int32], rows: NDArray[np.intp]) -> None:
        waiting = lengths[rows].astype(np.int64)
        order = np.argsort(-waiting, kind="stable")
        self._rows = rows[order]
        distinct, starts, counts = np.unique(-waiting[order], return_index=True, return_counts=True)
        ends = zip(starts.tolist(), (starts + counts).tolist(), strict=True)
        self._left: dict[int, tuple[int, int]] = dict(zip((-distinct).tolist(), ends, strict=True))
        # Bit n is set where a row of n tokens waits, so that the longest that fits is one shift
        # away.
        self._present: int = sum(1 << length for length in self._left)
        self.tokens = int(waiting.sum())

    def __bool__(self) -> bool:
        """Returns whether any row waits."""
        return self._present != 0

    @property
    def longest(self) -> int:
        """Tokens of the longest row that waits."""
        return self._present.bit_length() - 1

    @property
    def shortest(self) -> int:
        """Tokens of the shortest row that waits."""
        return (self._present & -self._present).bit_length() - 1

    def take(self, room: int, most: int) -> NDArray[np.intp]:
        """Takes rows, each time the longest that still fits, and of equal ones the first.

        Args:
            room: Most tokens of them together.
            most: Most rows.
        """
        taken: list[NDArray[np.intp]] = []
        while most and (fitting := self._present & ((2 << room) - 1)):
            length = fitting.bit_length() - 1
            start, stop = self._left[length]
            number = min(stop - start, most, room // length if length else most)
            taken.append(self._rows[start : start + number])
            room -= number * length
            most -= number
            self.tokens -= number * length
            if start + number == stop:
                self._present ^= 1 << length
            else:
                self._left[length] = start + number, stop
        return np.concatenate(taken) if taken else self._rows[:0]
