"""Records whose id an earlier record has, found before anything is embedded.

Ids are compared by 64-bit hashes first, split by split. Then only the splits that hold a repeated
hash are read again, for the ids themselves, so that two ids with one hash reject nothing. Each
split may be read by another worker; what is merged here are hashes alone.
"""

import math
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, Problems, make_ids
from embedkit.corpus.formats import read_ranges
from embedkit.corpus.splits import Plan, Split
from embedkit.errors import InputError
from embedkit.hashes.digests import hash_of, hashes_of
from embedkit.hashes.local_files import writing_in
from embedkit.hashes.uniqueness import repeated

Hashes = NDArray[np.uint64]
Duplicates = dict[str, tuple[tuple[str, int], ...]]
"""By split, source and row index of the records whose id an earlier record has."""

_MOST_DUPLICATES = 100_000
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Suspect:
    """A record whose id has the hash of another's.

    Attributes:
        digest: 128 bits that stand for its id.
        source: Its file.
        row_index: Its place in there.
    """

    digest: bytes
    source: str
    row_index: int


@dataclass(frozen=True)
class _Ids:
    source: str
    row_index: list[int]
    ids: list[str]


def check_ids(plan: Plan, config: CorpusConfig) -> Plan:
    """Notes in each split the records that repeat an id, all of it read in this process.

    Raises:
        InputError: So many ids repeat that the column holds none, or a file cannot be read.
    """
    if plan.ids_checked:
        return plan
    with IdHashes() as merged:
        for split in plan.splits:
            for hashes in id_hashes(split, config):
                merged.add(split.split_id, hashes)
        suspects = merged.suspects(config)
    found = [
        (split.split_id, find_suspects(split, config, suspects[split.split_id]))
        for split in plan.splits
        if split.split_id in suspects
    ]
    return plan.with_duplicates(later_ones(found))


def id_hashes(split: Split, config: CorpusConfig) -> Iterator[Hashes]:
    """Reads the ids of a split, and of Parquet files nothing else.

    Whether a record is a reject for another reason does not matter: its id counts all the same.

    Yields:
        Their hashes in the order of the records, uint64, shape (some,).

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    for batch in _ids(split, config):
        yield _hashes(batch.ids)


def find_suspects(split: Split, config: CorpusConfig, hashes: Hashes) -> list[Suspect]:
    """Reads the ids of a split again, and returns the records whose id has one of some hashes.

    Args:
        split: The split.
        config: Names the id column.
        hashes: Ascending, uint64, shape (n,).

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    return [
        Suspect(hash_of(batch.ids[place].encode()), batch.source, batch.row_index[place])
        for batch in _ids(split, config)
        for place in np.flatnonzero(_among(_hashes(batch.ids), hashes))
    ]


def later_ones(found: Iterable[tuple[str, Iterable[Suspect]]]) -> Duplicates:
    """Tells which suspects repeat an id: the first in plan order has it.

    Args:
        found: Splits in plan order, and their suspects in the order of the records.
    """
    seen: set[bytes] = set()
    duplicates: Duplicates = {}
    for split_id, suspects in found:
        later = []
        for one in suspects:
            if one.digest in seen:
                later.append((one.source, one.row_index))
            seen.add(one.digest)
        if later:
            duplicates[split_id] = tuple(later)
    return duplicates


class IdHashes:
    """The hashes of all ids, 8 bytes each on the local disk."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="embedkit-")
        self._counts: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What could not be written was said when it was added.
        with suppress(OSError):
            self._file.close()

    def add(self, split_id: str, hashes: Hashes) -> None:
        """Adds hashes of a split; those of one split come one after the other."""
        with writing_in(tempfile.gettempdir()):
            self._file.write(hashes.astype("<u8", copy=False).tobytes())
            self._file.flush()
        self._counts[split_id] = self._counts.get(split_id, 0) + len(hashes)

    def suspects(self, config: CorpusConfig) -> dict[str, Hashes]:
        """Returns the hashes that occur more than once, by the splits that hold them, ascending.

        Raises:
            InputError: So many do that the column holds no id.
        """
        total = sum(self._counts.values())
        candidates, repeats = repeated(self._read(0, total))
        check_repeats(int(repeats.sum()) - len(repeats), total, config)
        found = {}
        start = 0
        for split_id, count in self._counts.items() if len(candidates) else ():
            pieces = [
                piece[_among(piece, candidates)] for piece in self._read(start, start + count)
            ]
            held = np.unique(np.concatenate([*pieces, candidates[:0]]))
            if len(held):
                found[split_id] = held
            start += count
        return found

    def _read(self, start: int, stop: int) -> Iterator[Hashes]:
        for begin in range(start, stop, _AT_ONCE):
            self._file.seek(begin * 8)
            yield np.frombuffer(self._file.read(min(_AT_ONCE, stop - begin) * 8), dtype="<u8")


def check_repeats(surplus: int, total: int, config: CorpusConfig) -> None:
    """Refuses a column that holds no ids.

    Args:
        surplus: Records whose id an earlier one has.
        total: All records with an id.
        config: Names the column.

    Raises:
        InputError: So many repeat.
    """
    if surplus > _MOST_DUPLICATES:
        raise InputError(
            f"id column {config.id_column!r} is not an id: {surplus} of {total} records repeat an "
            f"earlier one's, and at most {_MOST_DUPLICATES} may; name another column, or none"
        )


def _ids(split: Split, config: CorpusConfig) -> Iterator[_Ids]:
    columns = Columns.id_only(config)
    name = columns.id or ""
    left = math.inf if split.documents is None else split.documents
    for file, batches in read_ranges(split.ranges, config, columns):
        for records in batches:
            if left <= 0:
                return
            left -= len(records)
            problems: Problems = {}
            ids = make_ids(records.columns[name], name, problems) if records.row_index else []
            good = [place for place in range(len(ids)) if place not in problems]
            yield _Ids(
                file.source,
                [records.row_index[place] for place in good],
                [ids[place] for place in good],
            )


def _hashes(ids: Iterable[str]) -> Hashes:
    return np.frombuffer(hashes_of(ids, 8), dtype="<u8")


def _among(hashes: Hashes, candidates: Hashes) -> NDArray[np.bool_]:
    if not len(candidates):
        return np.zeros(len(hashes), dtype=bool)
    places = np.minimum(np.searchsorted(candidates, hashes), len(candidates) - 1)
    found: NDArray[np.bool_] = candidates[places] == hashes
    return found
