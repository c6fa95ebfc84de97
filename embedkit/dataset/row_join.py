"""Joins the rows of two versions by their ids, in memory that does not grow with them.

The digests of rows are parted by the hash of the id into files of this machine, once, as they are
read; each pair of files is then joined by itself. The other way, a pass over both versions for each
range of the hash, would read and decode every part as often as there are ranges, while the digests
of a row take a 27th of what a vector of 384 components does.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.row_digests import DIGESTS
from embedkit.errors import IntegrityError
from embedkit.hashes.local_files import writing_in

ADDED, REMOVED, CHANGED, MOVED, RE_ENCODED, METADATA = (1 << place for place in range(6))
"""What may be said of a row; of these only ``MOVED`` and ``RE_ENCODED`` are said of one at once."""

_ROWS_OF_BUCKET = 1 << 18
_MOST_BUCKETS = 1 << 12
_HELD_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class JoinedRows:
    """What was found of the rows of one range of hashes.

    Attributes:
        removed: Numbers of rows of the earlier version whose ids the later one lacks, shape (n,).
        numbers: Numbers of all rows of the later version that are in the range, shape (m,).
        found: What is said of each of these, 0 where it is as it was, uint8, shape (m,).
    """

    removed: NDArray[np.uint64]
    numbers: NDArray[np.uint64]
    found: NDArray[np.uint8]


def join_rows(
    earlier: Iterable[NDArray[np.void]],
    later: Iterable[NDArray[np.void]],
    rows: int,
    names: tuple[str, str],
) -> Iterator[JoinedRows]:
    """Joins rows by their ids, a range of hashes at a time.

    Args:
        earlier: Digests of rows, see ``DIGESTS``, any number at a time.
        later: The same of the other version.
        rows: About how many there are of both together.
        names: What an error calls the two versions.

    Raises:
        IntegrityError: An id is twice in one of them.
        OSError: The local disk has no room for the digests.
    """
    buckets = max(1, min(_MOST_BUCKETS, -(-rows // _ROWS_OF_BUCKET)))
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        sides = [Path(folder, side) for side in ("earlier", "later")]
        for side, digests in zip(sides, (earlier, later), strict=True):
            side.mkdir()
            _part_into(side, digests, buckets)
        for bucket in range(buckets):
            yield _joined(_read(sides[0], bucket), _read(sides[1], bucket), names)


def _part_into(folder: Path, digests: Iterable[NDArray[np.void]], buckets: int) -> None:
    held: list[NDArray[np.void]] = []
    count = 0
    for some in digests:
        held.append(some)
        count += len(some)
        if count >= _HELD_ROWS:
            _spill(folder, np.concatenate(held), buckets)
            held, count = [], 0
    if held:
        _spill(folder, np.concatenate(held), buckets)


def _spill(folder: Path, digests: NDArray[np.void], buckets: int) -> None:
    of_row = ((digests["high"] >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)
    ordered = digests[np.argsort(of_row, kind="stable")]
    bounds = np.append(0, np.cumsum(np.bincount(of_row.astype(np.int64), minlength=buckets)))
    for bucket in range(buckets):
        some = ordered[bounds[bucket] : bounds[bucket + 1]]
        if len(some):
            with writing_in(folder), _file(folder, bucket).open("ab") as file:
                file.write(some.data)


def _read(folder: Path, bucket: int) -> NDArray[np.void]:
    path = _file(folder, bucket)
    return np.fromfile(path, DIGESTS) if path.exists() else np.empty(0, DIGESTS)


def _file(folder: Path, bucket: int) -> Path:
    return folder / f"{bucket:04d}"


def _joined(
    earlier: NDArray[np.void], later: NDArray[np.void], names: tuple[str, str]
) -> JoinedRows:
    rows = np.concatenate([earlier, later])
    side = np.repeat(np.array([0, 1], np.uint8), [len(earlier), len(later)])
    # Of equal ids the earlier row comes first, as the order of equal keys stays.
    order = np.lexsort((rows["low"], rows["high"]))
    first, second = order[:-1], order[1:]
    same = np.ones(len(first), bool)
    for half in ("high", "low"):
        same &= rows[half][first] == rows[half][second]
    first, second = first[same], second[same]
    if len(twice := np.flatnonzero(side[first] == side[second])):
        raise IntegrityError(
            f"{names[side[first[twice[0]]]]}: an id occurs twice; 'embedkit validate' names it"
        )
    found = np.full(len(later), ADDED, np.uint8)
    found[second - len(earlier)] = _compared(rows[first], rows[second])
    gone = np.ones(len(earlier), bool)
    gone[first] = False
    return JoinedRows(earlier["number"][gone], later["number"], found)


def _compared(was: NDArray[np.void], now: NDArray[np.void]) -> NDArray[np.uint8]:
    """Says what differs between rows of equal ids, shape (n,)."""
    changed, moved, re_encoded, metadata = (
        was[name] != now[name] for name in ("text", "place", "vector", "metadata")
    )
    found = np.where(moved, MOVED, 0) | np.where(re_encoded, RE_ENCODED, 0)
    found = np.where(metadata & (found == 0), METADATA, found)
    return np.where(changed, CHANGED, found).astype(np.uint8)
