"""Which hashes occur more than once, how often and where first, found by many processes.

The hashes are dealt out by their leading bits: each process writes those of what it reads into a
file of its own, ordered by hash, and each range of hashes is then looked at by itself. So no
process holds all of them, and what is found does not depend on how many there were.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MOST_IN_BUCKET = 1 << 21
_MOST_BUCKETS = 1 << 12
TOP = 10
"""The most repeated hashes, which are named."""


@dataclass(frozen=True, slots=True)
class RepeatedHash:
    """A hash that occurs more than once.

    Attributes:
        value: The hash.
        count: How often it occurs.
        place: The lowest of its places.
    """

    value: int
    count: int
    place: int


@dataclass(frozen=True, slots=True)
class RepeatedHashes:
    """What is known of the hashes that occur more than once. A monoid over disjoint hashes.

    Attributes:
        occurrences: How often they occur, together.
        hashes: How many they are.
        top: The most frequent of them, most first; of equally frequent ones the lowest.
    """

    occurrences: int = 0
    hashes: int = 0
    top: tuple[RepeatedHash, ...] = ()

    def __add__(self, other: "RepeatedHashes") -> "RepeatedHashes":
        """Returns what is known of both sets of hashes, of which none is in both."""
        top = sorted((*self.top, *other.top), key=lambda one: (-one.count, one.value))
        return RepeatedHashes(
            self.occurrences + other.occurrences, self.hashes + other.hashes, tuple(top[:TOP])
        )


@dataclass(frozen=True, eq=False)
class PlacedHashes:
    """Hashes with the place of each, ascending by hash.

    Attributes:
        hashes: Their bits are evenly spread, uint64, shape (n,).
        places: uint32, shape (n,).
    """

    hashes: NDArray[np.uint64]
    places: NDArray[np.uint32]

    @classmethod
    def of(cls, arrays: Iterable[tuple[int, NDArray[np.uint64]]]) -> "PlacedHashes":
        """Takes hashes from some places.

        Args:
            arrays: The number of each place, and the hashes there in any order.
        """
        found = list(arrays)
        hashes = np.concatenate([np.empty(0, np.uint64), *(one for _, one in found)])
        lengths = [len(one) for _, one in found]
        places = np.repeat(np.array([place for place, _ in found], np.uint32), lengths)
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], places[order])

    def bounds(self, buckets: int) -> NDArray[np.int64]:
        """Returns where each bucket begins and the last one ends, shape (buckets + 1,).

        Args:
            buckets: A power of two.
        """
        if buckets == 1:
            return np.array([0, len(self.hashes)])
        leading = self.hashes >> np.uint64(64 - (buckets.bit_length() - 1))
        bounds: NDArray[np.int64] = np.searchsorted(leading, np.arange(buckets + 1))
        return bounds

    def repeated(self) -> RepeatedHashes:
        """Finds those that occur more than once."""
        if not len(self.hashes):
            return RepeatedHashes()
        starts = np.flatnonzero(np.concatenate([[True], self.hashes[1:] != self.hashes[:-1]]))
        counts = np.diff(starts, append=len(self.hashes))
        first = np.minimum.reduceat(self.places, starts)
        several = counts > 1
        values, counts, first = self.hashes[starts[several]], counts[several], first[several]
        # As many as are named, and no order among the many others.
        most = np.argsort(-counts, kind="stable")[:TOP]
        top = zip(values[most].tolist(), counts[most].tolist(), first[most].tolist(), strict=True)
        return RepeatedHashes(
            int(counts.sum()), len(counts), tuple(RepeatedHash(*one) for one in top)
        )


@dataclass(frozen=True, slots=True)
class HashFile:
    """Placed hashes in a file of this machine.

    Attributes:
        path: The file: all hashes, then all places.
        bounds: Where each bucket begins among them, and the last one ends.
    """

    path: str
    bounds: tuple[int, ...]

    def read(self, bucket: int) -> PlacedHashes:
        """Reads those of one bucket."""
        start, stop = self.bounds[bucket : bucket + 2]
        whole = self.bounds[-1]
        with open(self.path, "rb") as file:
            file.seek(8 * start)
            hashes = np.fromfile(file, np.uint64, stop - start)
            file.seek(8 * whole + 4 * start)
            return PlacedHashes(hashes, np.fromfile(file, np.uint32, stop - start))


def bucket_count(hashes: int) -> int:
    """Returns into how many buckets hashes are dealt, so that each fits well into memory."""
    buckets = 1
    while buckets < _MOST_BUCKETS and hashes > buckets * _MOST_IN_BUCKET:
        buckets *= 2
    return buckets


def write_hashes(placed: PlacedHashes, buckets: int, path: Path) -> HashFile:
    """Writes hashes to a file, for ``repeated_in``."""
    with path.open("wb") as file:
        placed.hashes.tofile(file)
        placed.places.tofile(file)
    return HashFile(str(path), tuple(placed.bounds(buckets).tolist()))


def repeated_in(bucket: int, files: Sequence[HashFile]) -> RepeatedHashes:
    """Finds the hashes of one bucket that occur more than once in all of the files."""
    parts = [file.read(bucket) for file in files]
    hashes = np.concatenate([part.hashes for part in parts])
    order = np.argsort(hashes, kind="stable")
    places = np.concatenate([part.places for part in parts])
    return PlacedHashes(hashes[order], places[order]).repeated()
