"""Where rows of an earlier version are, as it is told to whoever takes vectors over from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.hash_runs import ROW_BITS, Hashes, HashRun, hashes_of_pairs
from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE
from embedkit.dataset.rows import read_columns
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.reports.repeats import hash64

_ROW = np.uint64((1 << ROW_BITS) - 1)


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


def read_hashes(version: Version, part: Part) -> tuple[Hashes, Hashes]:
    """Reads 64 bits of the hashes of a part's texts and ids, uint64, shape (rows,) each.

    Raises:
        IntegrityError: The part is gone or damaged.
        StoreError: The store failed.
    """
    texts, ids = np.empty((2, part.rows), dtype=np.uint64)
    end = 0
    for batch in read_columns(version, [part], ["id", "text_hash"]):
        start, end = end, end + len(batch)
        try:
            texts[start:end], ids[start:end] = _hashes_of(batch)
        except ValueError as error:
            raise IntegrityError(
                f"{version.url}/{part.path}: its text_hash is no hash of a text; {RESTORE}"
            ) from error
    return texts, ids


def _hashes_of(rows: pa.RecordBatch) -> tuple[Hashes, Hashes]:
    texts = hash64(rows.column("text_hash"))
    if len(texts) != len(rows):
        raise ValueError("of another length than hashes have")
    return texts, id_hashes(rows.column("id"))[:, 0]


def find_in_runs(rows: pa.RecordBatch, runs: Iterable[tuple[NDArray[np.int32], HashRun]]) -> Places:
    """Finds rows, see ``RowIndex``; of equal ones the first that a run has.

    Args:
        rows: Their columns ``id`` and ``text_hash`` count.
        runs: Each with the numbers of its parts among the version's.
    """
    texts, ids = _hashes_of(rows)
    places = Places.nowhere(len(texts))
    of_pair = Places.nowhere(len(texts))
    by_text, by_id = _Search(texts), _Search(ids)
    by_pair = _Search(hashes_of_pairs(texts, ids))
    for numbers, run in runs:
        for search, found_at, hashes, of_hashes in (
            (by_text, places, run.texts, run.places),
            (by_pair, of_pair, run.pairs, run.pair_places),
        ):
            found, at = search.found_in(hashes)
            found_at.parts[found] = numbers[of_hashes[at] >> np.uint64(ROW_BITS)]
            found_at.rows[found] = of_hashes[at] & _ROW
        found, _ = by_id.found_in(run.ids)
        places.known[found] = True
    same = of_pair.parts >= 0
    places.parts[same], places.rows[same] = of_pair.parts[same], of_pair.rows[same]
    return places


class _Search:
    """Hashes that are looked for in one run after the other, until they are found.

    They are looked for in ascending order, so that a search goes once through a run, and does not
    jump about in it.
    """

    def __init__(self, hashes: Hashes) -> None:
        self._rows = np.argsort(hashes)
        self._left = hashes[self._rows]

    def found_in(self, ascending: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Returns which hashes are there that were not found before, and where each is first."""
        if not len(ascending):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.searchsorted(ascending, self._left)
        there = ascending[np.minimum(at, len(ascending) - 1)] == self._left
        found = self._rows[there]
        self._rows, self._left = self._rows[~there], self._left[~there]
        return found, at[there]
