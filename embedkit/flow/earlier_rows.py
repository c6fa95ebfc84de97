"""Vectors of an earlier version for rows whose model input did not change."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.corpus.plan import Plan
from embedkit.dataset.committed import committed
from embedkit.dataset.finalize import part_of
from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part, read_manifest
from embedkit.dataset.plan_file import read_plan
from embedkit.dataset.rows import read_rows
from embedkit.dataset.version import Version, block_of
from embedkit.encoders.spec import VectorSpec
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.flow.reuse import Reuse
from embedkit.reports.repeats import hash64
from embedkit.vectors import Vectors, value_column, vectors_of

_PARTS_AT_ONCE = 4
"""Parts of the earlier version that are read at the same time."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


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

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves behind what was read."""
        return type(self), (self._reuse,)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The version's parts in block order.

        Raises:
            IntegrityError: A record is damaged or gone.
            StoreError: The store failed.
        """
        with _do_without():
            return parts_of(self.version)

    @cached_property
    def index(self) -> RowIndex:
        """Where the version's rows are."""
        return SourceIndex(self.version, self.parts)

    def take(
        self,
        rows: pa.RecordBatch,
        vectors: VectorSpec,
        vector_dtype: str,
        counts: NDArray[np.int32] | None = None,
    ) -> Taken:
        """Takes the vectors of rows whose texts the version has, bit for bit.

        Args:
            rows: Rows of a block with their ``id``, ``text_hash`` and ``source``.
            vectors: What their vectors are.
            vector_dtype: ``float32`` or ``float16``.
            counts: How many vectors each row is to have, shape (rows,); one each where None.

        Returns:
            Vectors of the right number, width and type that are finite; rows that have none here
            are to be encoded.

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

            def read(number: int, mine: NDArray[np.intp]) -> "_Found | None":
                return self._read(number, rows, mine, places.rows[mine], vectors.column)

            if len(numbers) > 1:
                with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="earlier") as pool:
                    found = list(pool.map(read, numbers, wanted))
            else:
                found = list(map(read, numbers, wanted))
        same = np.zeros(rows.num_rows, dtype=np.bool_)
        pieces, numerics = [], {}
        for one in filter(None, found):
            same[one.rows[one.same]] = True
            piece = one.fitting(vectors.dimension, vector_dtype, counts)
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
    ) -> "_Found | None":
        """Reads rows of one part, and keeps those whose texts are indeed the same."""
        at, back = np.unique(places, return_inverse=True)
        table = read_rows(self.version, self.parts[number], ["id", "text_hash", column], at)
        if value_column(table.schema) != column or not self._may_take(table.schema):
            return None
        equal = [
            pc.equal(
                table.column(name).combine_chunks().take(pa.array(back)),
                rows.column(name).take(pa.array(mine)),
            ).to_numpy(zero_copy_only=False)
            for name in ("text_hash", "id")
        ]
        kept = np.flatnonzero(equal[0])
        return _Found(
            mine[kept], back[kept], equal[1][kept], vectors_of(table), _numerics_of(table.schema)
        )

    def _may_take(self, schema: pa.Schema) -> bool:
        """Tells whether vectors of a part may stand beside those that are encoded now."""
        wanted = self._reuse.numerics
        return wanted is None or all(dict(wanted) == one for one in _numerics_of(schema))


@dataclass(frozen=True, eq=False)
class _Found:
    """Rows of a block that a part has.

    Attributes:
        rows: Numbers of the rows in the block, ascending.
        places: Which of the vectors are theirs.
        same: Whether their ids are the same, too.
        vectors: Vectors that were read.
        numerics: Of what numerics these are.
    """

    rows: NDArray[np.intp]
    places: NDArray[np.intp]
    same: NDArray[np.bool_]
    vectors: Vectors
    numerics: Sequence[dict[str, Any]]

    def fitting(
        self, width: int, dtype: str, counts: NDArray[np.int32] | None
    ) -> tuple[NDArray[np.intp], Vectors] | None:
        """Returns the rows whose vectors are what a row is to have, and these; None of no row."""
        found = self.vectors
        is_many = found.offsets is not None
        if (
            found.width != width
            or str(found.values.dtype) != dtype
            or is_many != (counts is not None)
        ):
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


class SourceIndex:
    """Where rows are in the parts of an earlier version that hold rows of their sources.

    It holds 56 bytes for each row of the parts that the last block's sources are in.
    """

    def __init__(self, version: Version, parts: Sequence[Part]) -> None:
        """Takes the parts of a version in block order; what they hold is read when it is needed."""
        self._version = version
        self._parts = parts
        self._near: list[int] = []
        self._hashes: dict[int, _Hashes] = {}
        self._rows = _Rows.of([], [])

    def find(self, rows: pa.RecordBatch) -> Places:
        """Finds rows, see ``RowIndex``.

        Raises:
            IntegrityError: A part is damaged or gone.
            StoreError: The store failed.
        """
        sources = pc.unique(rows.column("source")).to_pylist()
        near = sorted({part for source in sources for part in self._sources.parts_of(source)})
        if near != self._near:
            self._open(near)
        return self._rows.find(_Hashes.of(rows))

    @cached_property
    def _sources(self) -> "_Sources":
        return _Sources.of(self._version, self._parts)

    def _open(self, near: list[int]) -> None:
        further = [number for number in near if number not in self._hashes]
        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="earlier") as pool:
            read = dict(zip(further, pool.map(self._read, further), strict=True))
        known = {**self._hashes, **read}
        self._hashes = {number: known[number] for number in near}
        self._rows = _Rows.of(near, list(self._hashes.values()))
        self._near = near

    def _read(self, number: int) -> "_Hashes":
        part = self._parts[number]
        table = read_rows(self._version, part, ["id", "text_hash"])
        try:
            hashes = _Hashes.of(table)
        except (KeyError, ValueError) as error:
            raise IntegrityError(
                f"{self._version.url}/{part.path}: not the ids and hashes that were written "
                f"({one_line(error)})"
            ) from error
        if not len(hashes.texts) == len(hashes.ids) == part.rows:
            raise IntegrityError(
                f"{self._version.url}/{part.path}: {len(hashes.ids)} rows, expected {part.rows}"
            )
        return hashes


@dataclass(frozen=True, eq=False)
class _Hashes:
    """64 bits of the hashes of rows' texts and ids, uint64, shape (rows,) each."""

    texts: NDArray[np.uint64]
    ids: NDArray[np.uint64]

    @classmethod
    def of(cls, rows: pa.RecordBatch | pa.Table) -> "_Hashes":
        texts = hash64(rows.column("text_hash"))
        return cls(texts, np.ascontiguousarray(id_hashes(rows.column("id"))[:, 0]))

    @property
    def both(self) -> NDArray[np.uint64]:
        """One hash of text and id."""
        both: NDArray[np.uint64] = self.texts ^ (self.ids * _MIX)
        return both


@dataclass(frozen=True, eq=False)
class _Keys:
    """Hashes in their order, and the row of each; of equal ones the first row comes first."""

    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> "_Keys":
        rows = np.argsort(hashes, kind="stable")
        return cls(hashes[rows], rows)

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Returns the first row with each of some hashes, -1 where there is none."""
        if not len(self.hashes):
            return np.full(len(hashes), -1, dtype=np.int64)
        places = np.searchsorted(self.hashes, hashes)
        places[places == len(self.hashes)] = 0
        found: NDArray[np.int64] = np.where(self.hashes[places] == hashes, self.rows[places], -1)
        return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of some parts by the hashes of their texts and ids.

    Attributes:
        parts: Numbers of the parts, shape (parts,).
        starts: How many rows are before each of them, shape (parts + 1,).
        texts: By their texts.
        both: By text and id.
        ids: Hashes of all ids in their order.
    """

    parts: NDArray[np.int32]
    starts: NDArray[np.int64]
    texts: _Keys
    both: _Keys
    ids: NDArray[np.uint64]

    @classmethod
    def of(cls, parts: Sequence[int], hashes: Sequence[_Hashes]) -> "_Rows":
        none = [np.empty(0, dtype=np.uint64)]
        every = _Hashes(
            np.concatenate([*(one.texts for one in hashes), *none]),
            np.concatenate([*(one.ids for one in hashes), *none]),
        )
        starts = np.zeros(len(parts) + 1, dtype=np.int64)
        np.cumsum([len(one.texts) for one in hashes], out=starts[1:])
        return cls(
            np.array(parts, dtype=np.int32),
            starts,
            _Keys.of(every.texts),
            _Keys.of(every.both),
            np.sort(every.ids),
        )

    def find(self, hashes: _Hashes) -> Places:
        """Finds rows, those with the same id before others."""
        places = Places.nowhere(len(hashes.texts))
        if not len(self.ids):
            return places
        rows = self.both.find(hashes.both)
        rows = np.where(rows >= 0, rows, self.texts.find(hashes.texts))
        found = np.flatnonzero(rows >= 0)
        parts = np.searchsorted(self.starts, rows[found], side="right") - 1
        places.parts[found] = self.parts[parts]
        places.rows[found] = rows[found] - self.starts[parts]
        at = np.searchsorted(self.ids, hashes.ids)
        at[at == len(self.ids)] = 0
        places.known[:] = self.ids[at] == hashes.ids
        return places


@dataclass(frozen=True, eq=False)
class _Sources:
    """Which parts may hold rows of a source.

    Attributes:
        named: The parts that name it.
        firsts: Of each part that names none but a range, the first source, in their order.
        lasts: Of these parts, the last source.
        reach: The last one of all ranges up to each.
        ranged: Numbers of these parts.
    """

    named: Mapping[str, Sequence[int]] = field(default_factory=dict)
    firsts: Sequence[str] = ()
    lasts: Sequence[str] = ()
    reach: Sequence[str] = ()
    ranged: Sequence[int] = ()

    @classmethod
    def of(cls, version: Version, parts: Sequence[Part]) -> "_Sources":
        named: dict[str, list[int]] = {}
        ranges = []
        planned: Mapping[str, Sequence[str]] | None = None
        for number, part in enumerate(parts):
            if part.source_range is not None:
                ranges.append((part.source_range.first, part.source_range.last, number))
                continue
            sources: Sequence[str] = list(part.sources)
            if not sources:
                # Of the first release: what its split was to read, all the same.
                planned = _planned_sources(version) if planned is None else planned
                sources = planned.get((block_of(part.path) or "").partition("-")[0], ())
            for source in sources:
                named.setdefault(source, []).append(number)
        ranges.sort()
        lasts = [last for _, last, _ in ranges]
        return cls(
            named,
            [first for first, _, _ in ranges],
            lasts,
            list(accumulate(lasts, max)),
            [number for _, _, number in ranges],
        )

    def parts_of(self, source: str) -> Iterator[int]:
        """Yields the numbers of the parts that may hold rows of a source."""
        yield from self.named.get(source, ())
        for place in range(bisect_left(self.reach, source), bisect_right(self.firsts, source)):
            if self.lasts[place] >= source:
                yield self.ranged[place]


def parts_of(version: Version) -> tuple[Part, ...]:
    """Returns the parts of a version in block order, of one that is not complete what it has.

    Raises:
        IntegrityError: A record is damaged.
        StoreError: The store failed.
    """
    if version.is_complete():
        return read_manifest(version).parts
    records = committed(version).values()
    return tuple(part_of(one, one.part) for one in records if one.part is not None)


def _planned_sources(version: Version) -> dict[str, tuple[str, ...]]:
    """Returns the sources of each split of a version's plan."""
    try:
        plan = Plan.of_dict(read_plan(version).corpus)
    except ValueError as error:
        raise IntegrityError(f"{version.url_of(version.plan_key)}: {error}") from error
    return {
        split.split_id: tuple(dict.fromkeys(piece.source for piece in split.ranges))
        for split in plan.splits
    }


def _numerics_of(schema: pa.Schema) -> list[dict[str, Any]]:
    """Returns the numerics of a part's vectors: those it was written with, and others'.

    Parts of the first release do not say any; it hashed them with the recipe, so they are the same.
    """
    metadata = schema.metadata or {}
    own = metadata.get(b"embedkit.numerics")
    others: list[dict[str, Any]] = json.loads(metadata.get(b"embedkit.reused_numerics", b"[]"))
    return others if own is None else [json.loads(own), *others]


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
