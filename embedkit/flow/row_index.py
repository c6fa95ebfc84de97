"""Where rows of an earlier version are, as it is told to whoever takes vectors over from it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Places:
    """Where rows are in an earlier version.

    Attributes:
        parts: Number of the part among the version's parts, -1 where the text is not there, int32,
            shape (rows,).
        rows: Row of the part, int64, shape (rows,).
        known: Whether the row's id is there, with whatever text, shape (rows,).
    """

    parts: NDArray[np.int32]
    rows: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def nowhere(cls, rows: int) -> "Places":
        """Returns the places of rows that are not there."""
        parts = np.full(rows, -1, dtype=np.int32)
        return cls(parts, np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.bool_))


class RowIndex(Protocol):
    """Where the rows of an earlier version are."""

    def find(self, rows: pa.RecordBatch) -> Places:
        """Finds rows by their text, and of several with the same text the one with the same id.

        Args:
            rows: Their ``id``, ``text_hash`` and ``source``, among other columns.

        Returns:
            Where they may be: texts are told apart by 64 bits of their hashes.
        """
        ...
