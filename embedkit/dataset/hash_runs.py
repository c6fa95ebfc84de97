"""Where the rows of an earlier version are, by hashes: sorted runs, each over some of its parts.

A run is a file under ``_meta/reuse/`` of the version that takes rows over, there until that one is
complete. Its name tells which parts it is of, so whoever finds it missing may write it: all write
the same. A reader maps it into memory, and so holds none of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.local_copies import folder_of_copies, written_whole
from embedkit.dataset.manifest import Part
from embedkit.dataset.stores import create, read_if_there
from embedkit.dataset.version import Version
from embedkit.hashes.digests import digest, hash_of
from embedkit.lazy import lazy_property

Hashes = NDArray[np.uint64]

_FOLDER = "_meta/reuse/"
_MOST_PARTS = 256
_MOST_ROWS = 1 << 20
_CHECKSUM_BYTES = 16
_ARRAYS = 5
ROW_BITS = 32
"""Bits of a place that tell the row of a part; those before them tell the part."""

_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class RunOfParts:
    """Consecutive parts of an earlier version, whose rows are in one run.

    Attributes:
        earlier: The version.
        first: The number of the first of them among the version's parts.
        parts: The parts.
    """

    earlier: Version
    first: int
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Rows of the parts."""
        return sum(part.rows for part in self.parts)

    @lazy_property
    def name(self) -> str:
        """Name of its file, which tells these parts from any others."""
        facts = (fact for part in self.parts for fact in (part.path, part.sha256))
        return f"{digest(self.earlier.url, *facts)}.run"

    def path(self, version: Version) -> str:
        """Returns the key of its file in the store of the version that takes rows over."""
        return version.key(_FOLDER + self.name)


def cut_into_runs(earlier: Version, parts: Sequence[Part]) -> Iterator[RunOfParts]:
    """Cuts the parts of a version into runs of 256 parts, or of a million rows, at most.

    A part of more rows than that is a run of its own.

    Args:
        earlier: The version.
        parts: Its parts.
    """
    first = rows = 0
    for number, part in enumerate(parts):
        if number > first and (rows + part.rows > _MOST_ROWS or number - first == _MOST_PARTS):
            yield RunOfParts(earlier, first, tuple(parts[first:number]))
            first, rows = number, 0
        rows += part.rows
    if parts:
        yield RunOfParts(earlier, first, tuple(parts[first:]))


@dataclass(frozen=True)
class HashRun:
    """The rows of some parts by hashes, each array ascending where it is searched.

    A place is the number of the part in the run and, in the lower bits, of the row in the part.

    Attributes:
        texts: Hashes of the texts, ascending; those of equal texts in the order of their places.
        places: The place of each, shape (rows,).
        pairs: Hashes of text and id together, ascending.
        pair_places: The place of each, shape (rows,).
        ids: Hashes of the ids, ascending.
    """

    texts: Hashes
    places: Hashes
    pairs: Hashes
    pair_places: Hashes
    ids: Hashes

    @classmethod
    def of(cls, texts: Hashes, ids: Hashes, rows_of_parts: Sequence[int]) -> "HashRun":
        """Sorts the rows of some parts.

        Args:
            texts: Hashes of the texts, in the order of the parts and rows, shape (rows,).
            ids: Hashes of the ids, shape (rows,).
            rows_of_parts: How many rows each part has.
        """
        rows = np.concatenate([np.arange(count, dtype=np.uint64) for count in rows_of_parts])
        parts = np.repeat(np.arange(len(rows_of_parts), dtype=np.uint64), rows_of_parts)
        places = parts << np.uint64(ROW_BITS) | rows
        del rows, parts
        arrays = np.empty((_ARRAYS, len(texts)), dtype=np.uint64)
        for first, hashes in ((0, texts), (2, hashes_of_pairs(texts, ids))):
            order = np.argsort(hashes, kind="stable")
            arrays[first], arrays[first + 1] = hashes[order], places[order]
        arrays[4] = np.sort(ids)
        return cls(*arrays)

    def to_bytes(self) -> bytes:
        """Returns the arrays one behind the other, little-endian, and a checksum."""
        arrays = [getattr(self, one.name).astype("<u8", copy=False) for one in fields(self)]
        return b"".join([*(array.data for array in arrays), _checksum(arrays)])

    @classmethod
    def of_bytes(cls, data: NDArray[np.uint8]) -> "HashRun | None":
        """Reads a run without copying it; None where these are not the bytes that were written.

        Args:
            data: All of its file, uint8, in memory or mapped into it.
        """
        end = len(data) - _CHECKSUM_BYTES
        if end < 0 or end % (8 * _ARRAYS):
            return None
        arrays = list(data[:end].view("<u8").reshape(_ARRAYS, -1))
        return cls(*arrays) if _checksum(arrays) == data[end:].tobytes() else None


def _checksum(arrays: Iterable[Hashes]) -> bytes:
    return hash_of(b"".join([hash_of(array.data) for array in arrays]), _CHECKSUM_BYTES)


def empty_run() -> HashRun:
    """Returns a run without rows."""
    return HashRun(*np.empty((_ARRAYS, 0), dtype=np.uint64))


def hashes_of_pairs(texts: Hashes, ids: Hashes) -> Hashes:
    """Returns hashes of texts and ids together, shape (rows,)."""
    # Without the product, where ids are the texts themselves, half of the bits would be lost.
    return texts ^ (ids * _MIX)


def write_run(version: Version, run: RunOfParts, hashes: HashRun) -> None:
    """Writes a run unless it is there.

    Raises:
        StoreError: The store failed.
    """
    create(version.store, run.path(version), hashes.to_bytes())


def open_run(version: Version, run: RunOfParts) -> HashRun | None:
    """Maps a run into memory: where it is, or in a copy that processes of this machine share.

    Returns:
        None where it is not there, or torn.

    Raises:
        StoreError: The store failed.
        OSError: There is no room for a copy.
    """
    system, path = version.store.place(run.path(version))
    if system is None:
        return _mapped(Path(path))
    return _mapped_copy(version, run)


def remove_run(version: Version, run: RunOfParts) -> None:
    """Takes a run away, so that it is written anew."""
    version.store.remove(run.path(version))


def remove_runs(version: Version) -> None:
    """Takes all runs away: of a version that is complete nobody asks for them.

    Raises:
        StoreError: The store failed.
    """
    for key in list(version.store.list(version.key(_FOLDER))):
        version.store.remove(key)


def missing_runs(version: Version, runs: Iterable[RunOfParts]) -> list[RunOfParts]:
    """Returns the runs that are not there, told by one listing."""
    there = set(version.store.list(version.key(_FOLDER)))
    return [run for run in runs if run.path(version) not in there]


def _mapped(path: Path) -> HashRun | None:
    try:
        return HashRun.of_bytes(np.asarray(np.memmap(path, np.uint8, mode="r")))
    except (FileNotFoundError, ValueError):
        # An empty file cannot be mapped.
        return None


def _mapped_copy(version: Version, run: RunOfParts) -> HashRun | None:
    folder = folder_of_copies()
    path = folder / run.name
    if (found := _mapped(path)) is None:
        data = read_if_there(version.store, run.path(version))
        if data is None or HashRun.of_bytes(np.frombuffer(data, np.uint8)) is None:
            return None
        with written_whole(path) as file:
            file.write(data)
        found = _mapped(path)
    if found is not None:
        # Those who have it mapped keep it; who comes later copies it once more.
        finalize(found, path.unlink, missing_ok=True)
    return found
