"""Vectors of an earlier version for rows whose model input did not change."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE
from embedkit.dataset.part_copies import PartCopies
from embedkit.dataset.rows import parts_of, read_rows
from embedkit.encoders.spec import VectorSpec
from embedkit.errors import IntegrityError
from embedkit.flow.hash_index import GlobalIndex, write_index
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.reuse import Reuse
from embedkit.flow.row_index import RowIndex
from embedkit.flow.source_index import SourceIndex
from embedkit.formats.canonical import load_json
from embedkit.lazy import lazy_property
from embedkit.quantization import StoredAs
from embedkit.vectors import Vectors, stored_as, stored_of, value_column

_PARTS_AT_ONCE = 4
"""Parts of the earlier version that are read at the same time."""

_KEYS = ("text_hash", "id")
_FEW_IN = 64
"""Where fewer rows than one in so many are taken, a part is not read whole."""


@dataclass(frozen=True, eq=False)
class Taken:
    """Vectors of an earlier version for some rows of a block.

    Attributes:
        pieces: Numbers of rows, ascending, and the vectors of each, so that a row is in one piece
            at most.
        known: Whether the row's id is there, with whatever text, shape (rows,).
        same: Whether the row is there with its id and this text, shape (rows,).
        numerics: Of what numerics these vectors are, each once.
    """

    pieces: Sequence[tuple[NDArray[np.intp], Vectors]]
    known: NDArray[np.bool_]
    same: NDArray[np.bool_]
    numerics: tuple[dict[str, Any], ...] = ()

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Whether each row has its vectors here, shape (rows,)."""
        mask = np.zeros(len(self.known), dtype=np.bool_)
        for rows, _ in self.pieces:
            mask[rows] = True
        return mask


class EarlierRows:
    """Vectors of an earlier version by model input; picklable, and opened in each process anew.

    Attributes:
        version: The earlier version.
    """

    def __init__(self, reuse: Reuse) -> None:
        """Takes which version it is, and how vectors are taken over; nothing is read yet."""
        self._reuse = reuse
        self.version = reuse.version
        self._checked: set[int] = set()
        self._copies = PartCopies(reuse.version)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves behind what was read, and the splits, which no row is looked up in."""
        return type(self), (self._reuse.without_splits(),)

    @lazy_property
    def parts(self) -> tuple[Part, ...]:
        """The version's parts in block order.

        Raises:
            IntegrityError: A record is damaged or gone.
            StoreError: The store failed.
        """
        with _do_without():
            return parts_of(self.version)

    @lazy_property
    def index(self) -> RowIndex:
        """Where the version's rows are."""
        if self._reuse.scope == "global":
            assert self._reuse.into is not None, "as find_reuse makes it"
            return GlobalIndex(self.version, self.parts, self._reuse.into)
        return SourceIndex(self.version, self.parts)

    def write_index(self, map_splits: MapSplits) -> None:
        """Has workers write what rows are looked up in, where that is kept beside the plan.

        Without it each worker writes what it finds missing, which takes longer where they are many.

        Args:
            map_splits: Reaches the workers.

        Raises:
            IntegrityError: A part or record of the version is damaged or gone.
            StoreError: The store failed.
        """
        index = self.index
        if isinstance(index, GlobalIndex):
            with _do_without():
                write_index(index, map_splits)

    def take(
        self,
        rows: pa.RecordBatch,
        vectors: VectorSpec,
        how: StoredAs,
        counts: NDArray[np.int32] | None = None,
    ) -> Taken:
        """Takes the vectors of rows whose texts the version has, bit for bit.

        Args:
            rows: Rows of a block with their ``id``, ``text_hash`` and ``source``.
            vectors: What their vectors are.
            how: How they are stored.
            counts: How many vectors each row is to have, shape (rows,); one each where None.

        Returns:
            Vectors of the right number, width and type that are finite; rows that have none here
            are to be encoded. A part of which more than a few rows are taken is compared with its
            SHA-256 before.

        Raises:
            IntegrityError: A part or record of the version is damaged or gone.
            StoreError: The store failed.
        """
        if not rows.num_rows:
            none = np.zeros(0, dtype=np.bool_)
            return Taken((), none, none)
        with _do_without():
            places = self.index.find(rows)
            numbers = [int(number) for number in np.unique(places.parts) if number >= 0]
            wanted = [np.flatnonzero(places.parts == number) for number in numbers]

            def read(number: int, mine: NDArray[np.intp]) -> "_Found":
                return self._read(number, rows, mine, places.rows[mine], vectors.column)

            if len(numbers) > 1:
                with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="earlier") as pool:
                    found = list(pool.map(read, numbers, wanted))
            else:
                found = list(map(read, numbers, wanted))
        same = np.zeros(rows.num_rows, dtype=np.bool_)
        pieces, numerics = [], {}
        for one in found:
            same[one.rows[one.same]] = True
            piece = one.fitting(how, counts)
            if piece is not None:
                pieces.append(piece)
                numerics.update({json.dumps(said, sort_keys=True): said for said in one.numerics})
        return Taken(pieces, places.known, same, tuple(numerics[said] for said in sorted(numerics)))

    def _read(
        self,
        number: int,
        rows: pa.RecordBatch,
        mine: NDArray[np.intp],
        places: NDArray[np.int64],
        column: str,
    ) -> "_Found":
        """Reads rows of one part, and keeps those whose texts are indeed the same."""
        at, back = np.unique(places, return_inverse=True)
        part = self.parts[number]
        # A flipped bit of a vector shows nowhere else. Reading all of a part for few of its rows
        # would cost more than these.
        checked = number not in self._checked and len(at) * _FEW_IN >= part.rows
        columns = [*_KEYS, column]
        table = self._copies.rows_of(part, columns, at)
        if table is None:
            table = read_rows(self.version, part, columns, at, checked)
        if checked:
            self._checked.add(number)
        equal = [
            pc.equal(
                table.column(name).combine_chunks().take(pa.array(back)),
                rows.column(name).take(pa.array(mine)),
            ).to_numpy(zero_copy_only=False)
            for name in _KEYS
        ]
        kept = np.flatnonzero(equal[0])
        numerics = _numerics_of(table.schema, f"{self.version.url}/{part.path}")
        of_use = value_column(table.schema) == column and self._may_take(numerics)
        return _Found(
            mine[kept],
            back[kept],
            equal[1][kept],
            stored_of(table) if of_use else None,
            stored_as(table.schema) if of_use else None,
            numerics,
        )

    def _may_take(self, numerics: Sequence[dict[str, Any]]) -> bool:
        """Tells whether vectors of a part may stand beside those that are encoded now."""
        wanted = self._reuse.numerics
        return wanted is None or all(dict(wanted) == one for one in numerics)


@dataclass(frozen=True, eq=False)
class _Found:
    """Rows of a block that a part has.

    Attributes:
        rows: Numbers of the rows in the block, ascending.
        places: Which of the vectors are theirs.
        same: Whether their ids are the same, too.
        vectors: Vectors that were read, as they are stored; None where they may not be taken.
        how: How they are stored.
        numerics: Of what numerics these are.
    """

    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    same: NDArray[np.bool_]
    vectors: Vectors | None
    how: StoredAs | None
    numerics: Sequence[dict[str, Any]]

    def fitting(
        self, how: StoredAs, counts: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.intp], Vectors] | None:
        """Returns the rows whose vectors are what a row is to have, and these; None of no row."""
        found = self.vectors
        if found is None or self.how is None or not self.how.is_as(how):
            return None
        if (found.offsets is not None) != (counts is not None):
            return None
        fits = found.finite[self.places]
        if counts is not None:
            fits &= found.counts[self.places] == counts[self.rows]
        if not fits.any():
            return None
        places = self.places[fits]
        if len(places) != len(found) or not np.array_equal(places, np.arange(len(found))):
            found = found.take(places)
        return self.rows[fits], found


def _numerics_of(schema: pa.Schema, name: str) -> list[dict[str, Any]]:
    """Returns the numerics of a part's vectors: those it was written with, and others'.

    Parts of the first release do not say any; it hashed them with the recipe, so they are the same.

    Raises:
        IntegrityError: The footer is not what was written.
    """
    metadata = schema.metadata or {}
    try:
        own = load_json(metadata.get(b"embedkit.numerics", b"null"))
        others = load_json(metadata.get(b"embedkit.reused_numerics", b"[]"))
        numerics = [*([] if own is None else [own]), *others]
        if not all(isinstance(one, dict) for one in numerics):
            raise ValueError("numerics that are no JSON objects")
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"{name}: its footer is damaged ({error}); {RESTORE}") from error
    return numerics


@contextmanager
def _do_without() -> Iterator[None]:
    """Says of what is wrong with the earlier version that a run can do without it."""
    remedy = "or take nothing over from that version, with --reuse off"
    try:
        yield
    except FileNotFoundError as error:
        raise IntegrityError(f"{error}: gone while it was read; restore it, {remedy}") from error
    except IntegrityError as error:
        raise IntegrityError(f"{error}; {remedy}") from error
