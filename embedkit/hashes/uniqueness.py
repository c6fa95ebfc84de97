"""Which hashes of a long stream occur more than once, in bounded memory."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_IN_MEMORY = 1 << 22
_BUCKETS = 256
_MOST_AT_ONCE = 4
_PAIR = np.dtype([("hash", np.uint64), ("place", np.int64)])


class Repeats(NamedTuple):
    """The hashes that occur more than once.

    Attributes:
        hashes: Each of them once, ascending, uint64, shape (n,).
        counts: How often each occurs, at least 2, int64, shape (n,).
    """

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]


class PlacedRepeats(NamedTuple):
    """The same, and where they stand.

    Attributes:
        hashes: See ``Repeats``.
        counts: See ``Repeats``.
        first: The place in the stream where each occurs first, int64, shape (n,).
    """

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    first: NDArray[np.int64]


def repeated(arrays: Iterable[NDArray[np.uint64]], in_memory: int = _IN_MEMORY) -> Repeats:
    """Finds the hashes that occur more than once in a stream of arrays, see ``placed_repeats``."""
    parts = list(placed_repeats(arrays, in_memory))
    return Repeats(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def placed_repeats(
    arrays: Iterable[NDArray[np.uint64]], in_memory: int = _IN_MEMORY
) -> Iterator[PlacedRepeats]:
    """Finds the hashes that occur more than once in a stream of arrays, a part of them at a time.

    Up to ``in_memory`` hashes are sorted in memory. A longer stream goes to 256 files in a
    temporary directory, by the leading byte, and each is sorted by itself, some in parallel, so
    that memory is a few 256ths of the stream and the local disk holds 16 bytes for each hash.

    Args:
        arrays: Hashes whose bits are evenly spread, uint64, one-dimensional.
        in_memory: Most hashes to hold before they go to disk.

    Yields:
        At least once what repeats, in ascending order of the hashes.
    """
    stream = iter(arrays)
    held, ended = _take(stream, in_memory)
    if ended:
        yield _repeated_in(held, np.arange(len(held)))
        return
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        place = 0
        while len(held):
            _spill(held, place, Path(folder))
            place += len(held)
            held, _ = _take(stream, in_memory)
        del held
        workers = min(_MOST_AT_ONCE, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers, thread_name_prefix="repeats") as pool:
            # Buckets are in the order of their leading byte, so their parts are ascending.
            yield from pool.map(_repeated_in_file, sorted(Path(folder).iterdir()))


def _take(stream: Iterator[NDArray[np.uint64]], limit: int) -> tuple[NDArray[np.uint64], bool]:
    held: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
    count = 0
    for array in stream:
        held.append(array.astype(np.uint64, copy=False))
        count += len(array)
        if count > limit:
            return np.concatenate(held), False
    return np.concatenate(held), True


def _repeated_in(hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> PlacedRepeats:
    """Finds what repeats; places must be ascending where hashes are equal."""
    values, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    more = counts > 1
    return PlacedRepeats(values[more], counts[more].astype(np.int64), places[first[more]])


def _repeated_in_file(bucket: Path) -> PlacedRepeats:
    pairs = np.fromfile(bucket, _PAIR)
    return _repeated_in(pairs["hash"], pairs["place"])


def _spill(hashes: NDArray[np.uint64], place: int, folder: Path) -> None:
    order = np.argsort(hashes, kind="stable")
    pairs = np.empty(len(hashes), _PAIR)
    pairs["hash"], pairs["place"] = hashes[order], order + place
    bounds = np.searchsorted(pairs["hash"] >> np.uint64(56), np.arange(_BUCKETS + 1))
    for bucket in range(_BUCKETS):
        part = pairs[bounds[bucket] : bounds[bucket + 1]]
        if len(part):
            with (folder / f"{bucket:03d}").open("ab") as file:
                part.tofile(file)
