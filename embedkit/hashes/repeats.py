"""Which hashes of a long sequence occur more than once, how often and where first.

Found by many processes, none of which holds all of them: each writes the hashes of what it reads
into a file of its own, sorted, and each range of hashes is then looked at by itself, in all files.
What is found does not depend on how many processes and files there were.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.hashes.local_files import writing_in

TOP = 10
"""The most frequent hashes, which are named."""

_MOST_IN_RANGE = 1 << 21
_MOST_RANGES = 1 << 12


@dataclass(frozen=True, slots=True)
class RepeatedHash:
    """A hash that occurs more than once.

    Attributes:
        value: The hash.
        count: How often it occurs.
        first: Where it does first, counted from 0 in the whole sequence.
    """

    value: int
    count: int
    first: int


@dataclass(frozen=True, slots=True)
class RepeatedHashes:
    """What is known of the hashes that occur more than once. A monoid over disjoint hashes.

    Attributes:
        occurrences: How often they occur, together.
        hashes: How many they are.
        top: The most frequent of them, most first; of equally frequent ones the lowest first.
    """

    occurrences: int = 0
    hashes: int = 0
    top: tuple[RepeatedHash, ...] = ()

    @classmethod
    def of(
        cls, hashes: NDArray[np.uint64], places: NDArray[np.int64] | None = None
    ) -> "RepeatedHashes":
        """Finds which of some hashes occur more than once.

        Args:
            hashes: In any order, shape (n,).
            places: Where each stands in the sequence, shape (n,); in this order unless given.
        """
        if not len(hashes):
            return cls()
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        counts = np.diff(begins, append=len(ordered))
        first = np.minimum.reduceat(order if places is None else places[order], begins)
        several = counts > 1
        values, counts, first = ordered[begins[several]], counts[several], first[several]
        most = np.argsort(-counts, kind="stable")[:TOP]
        top = zip(values[most].tolist(), counts[most].tolist(), first[most].tolist(), strict=True)
        return cls(int(counts.sum()), len(counts), tuple(RepeatedHash(*one) for one in top))

    def __add__(self, other: "RepeatedHashes") -> "RepeatedHashes":
        """Returns what is known of both sets of hashes, of which none is in both."""
        top = sorted((*self.top, *other.top), key=lambda one: (-one.count, one.value))
        return RepeatedHashes(
            self.occurrences + other.occurrences, self.hashes + other.hashes, tuple(top[:TOP])
        )


@dataclass(frozen=True, slots=True)
class HashFile:
    """Consecutive hashes of the sequence, sorted, in a file of this machine.

    Attributes:
        path: The file: all hashes, then the place of each among these.
        start: How many hashes of the sequence are before these.
        bounds: Where each range of hashes begins in the file, and the last one ends.
    """

    path: str
    start: int
    bounds: tuple[int, ...]

    @classmethod
    def write(cls, path: Path, hashes: NDArray[np.uint64], start: int, ranges: int) -> "HashFile":
        """Writes hashes.

        Args:
            path: The file.
            hashes: In the order of the sequence, their bits evenly spread, shape (n,); n < 2**32.
            start: How many hashes of the sequence are before these.
            ranges: A power of two.
        """
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        # Not by tofile, which loses its last bytes on a full disk and says nothing.
        with writing_in(path.parent), path.open("wb") as file:
            file.write(ordered.data)
            file.write(order.astype(np.uint32).data)
        return cls(str(path), start, _bounds(ordered, ranges))

    def read(self, number: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Reads one range of hashes, and where each stands in the sequence."""
        begin, end = self.bounds[number : number + 2]
        with open(self.path, "rb") as file:
            file.seek(8 * begin)
            hashes = np.fromfile(file, np.uint64, end - begin)
            file.seek(8 * self.bounds[-1] + 4 * begin)
            return hashes, np.fromfile(file, np.uint32, end - begin) + np.int64(self.start)


def in_ranges(
    hashes: NDArray[np.uint64], start: int, ranges: int
) -> Iterator[tuple[int, NDArray[np.uint64], NDArray[np.int64]]]:
    """Yields the hashes of each range that has any, with its number and their places, sorted.

    Args:
        hashes: In the order of the sequence, shape (n,).
        start: The place of the first; places have to be ascending, and no more.
        ranges: A power of two.
    """
    order = np.argsort(hashes, kind="stable")
    ordered, places = hashes[order], order + np.int64(start)
    for number, (begin, end) in enumerate(pairwise(_bounds(ordered, ranges))):
        if end > begin:
            yield number, ordered[begin:end], places[begin:end]


def _bounds(ordered: NDArray[np.uint64], ranges: int) -> tuple[int, ...]:
    firsts = [(number << 64) // ranges for number in range(ranges)]
    begins = np.searchsorted(ordered, np.array(firsts, np.uint64))
    return (*begins.tolist(), len(ordered))


def range_count(hashes: int) -> int:
    """Returns into how many ranges so many hashes are parted, so that one is small in memory."""
    ranges = 1
    while ranges < _MOST_RANGES and hashes > ranges * _MOST_IN_RANGE:
        ranges *= 2
    return ranges


def repeated_in(number: int, files: Sequence[HashFile]) -> RepeatedHashes:
    """Finds the hashes of one range that occur more than once in all of the files."""
    read = [file.read(number) for file in files]
    hashes = np.concatenate([found for found, _ in read])
    return RepeatedHashes.of(hashes, np.concatenate([places for _, places in read]))
