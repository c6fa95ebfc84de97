"""Where rows are in the parts of an earlier version that hold rows of the same input files."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.corpus.plan import Plan
from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part
from embedkit.dataset.plan_file import read_plan
from embedkit.dataset.rows import read_rows
from embedkit.dataset.version import Version, block_of
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.flow.row_index import Places
from embedkit.reports.repeats import hash64

_PARTS_AT_ONCE = 4
"""Parts of the earlier version that are read at the same time."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


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
