"""Which hashes of a long stream occur more than once, in bounded memory."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.hashes.local_files import writing_in

_IN_MEMORY = 1 << 22
_BUCKETS = 256


class Repeats(NamedTuple):
    """The hashes that occur more than once.

    Attributes:
        hashes: Each of them once, ascending, uint64, shape (n,).
        counts: How often each occurs, at least 2, int64, shape (n,).
    """

    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]


def repeated(arrays: Iterable[NDArray[np.uint64]], in_memory: int = _IN_MEMORY) -> Repeats:
    """Finds the hashes that occur more than once in a stream of arrays.

    Up to ``in_memory`` hashes are sorted in memory. A longer stream goes to 256 files in a
    temporary directory, by the leading byte, and each is sorted by itself, so that memory is a
    256th of the stream and the local disk holds 8 bytes for each hash.

    Args:
        arrays: Hashes whose bits are evenly spread, uint64, one-dimensional.
        in_memory: Most hashes to hold before they go to disk.
    """
    stream = iter(arrays)
    held, ended = _take(stream, in_memory)
    if ended:
        return _repeated_in(held)
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        while len(held):
            _spill(held, Path(folder))
            held, _ = _take(stream, in_memory)
        # Buckets are in the order of their leading byte, so their parts join in ascending order.
        parts = [
            _repeated_in(np.fromfile(bucket, dtype=np.uint64))
            for bucket in sorted(Path(folder).iterdir())
        ]
    return Repeats(
        np.concatenate([part.hashes for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


def _take(stream: Iterator[NDArray[np.uint64]], limit: int) -> tuple[NDArray[np.uint64], bool]:
    held: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
    count = 0
    for array in stream:
        held.append(array.astype(np.uint64, copy=False))
        count += len(array)
        if count > limit:
            return np.concatenate(held), False
    return np.concatenate(held), True


def _repeated_in(hashes: NDArray[np.uint64]) -> Repeats:
    values, counts = np.unique(hashes, return_counts=True)
    return Repeats(values[counts > 1], counts[counts > 1].astype(np.int64))


def _spill(hashes: NDArray[np.uint64], folder: Path) -> None:
    ordered = np.sort(hashes)
    bounds = np.searchsorted(ordered >> np.uint64(56), np.arange(_BUCKETS + 1))
    for bucket in range(_BUCKETS):
        part = ordered[bounds[bucket] : bounds[bucket + 1]]
        if len(part):
            # Not by tofile, which loses its last bytes on a full disk and says nothing.
            with writing_in(folder), (folder / f"{bucket:03d}").open("ab") as file:
                file.write(part.data)
