"""Where rows are in the parts of an earlier version that hold rows of the same input files."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.dataset.hash_runs import Hashes, HashRun, empty_run
from embedkit.dataset.manifest import Part
from embedkit.dataset.plan_file import read_plan, standing_plan
from embedkit.dataset.version import Version, block_of
from embedkit.flow.row_index import Places, find_in_runs, read_hashes
from embedkit.lazy import lazy_property

_PARTS_AT_ONCE = 4
"""Parts of the earlier version that are read at the same time."""


class SourceIndex:
    """Where rows are in the parts of an earlier version that hold rows of their sources.

    It holds 56 bytes for each row of the parts that the last block's sources are in.
    """

    def __init__(self, version: Version, parts: Sequence[Part]) -> None:
        """Takes the parts of a version in block order; what they hold is read when it is needed."""
        self._version = version
        self._parts = parts
        self._near: list[int] = []
        self._hashes: dict[int, tuple[Hashes, Hashes]] = {}
        self._run = empty_run()

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
        return find_in_runs(rows, [(np.array(near, dtype=np.int32), self._run)])

    @lazy_property
    def _sources(self) -> "_Sources":
        return _Sources.of(self._version, self._parts)

    def _open(self, near: list[int]) -> None:
        further = [number for number in near if number not in self._hashes]
        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="earlier") as pool:
            read = dict(zip(further, pool.map(self._read, further), strict=True))
        known = {**self._hashes, **read}
        self._hashes = {number: known[number] for number in near}
        self._run = _sorted(list(self._hashes.values()))
        self._near = near

    def _read(self, number: int) -> tuple[Hashes, Hashes]:
        return read_hashes(self._version, self._parts[number])


def _sorted(parts: Sequence[tuple[Hashes, Hashes]]) -> HashRun:
    if not parts:
        return empty_run()
    texts, ids = (np.concatenate(hashes) for hashes in zip(*parts, strict=True))
    return HashRun.of(texts, ids, [len(hashes) for hashes, _ in parts])


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
    plan = standing_plan(version, read_plan(version))
    return {
        split.split_id: tuple(dict.fromkeys(piece.source for piece in split.ranges))
        for split in plan.splits
    }
