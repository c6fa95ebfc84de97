"""The close pairs of one cell, by exact products, in memory that does not grow with the cell.

A cell that is too large is parted again, over files of this machine. One that k-means cannot part,
as its rows are nearly one point, is cut by hash, and some rows of it stand in every piece.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.hashes.local_files import writing_in
from embedkit.reports.near.cells import (
    ROWS_OF_CELL,
    cell_count,
    nearest_cells,
    sample_size,
    train_cells,
)
from embedkit.reports.near.components import Edges, components, no_edges, star

Rows = NDArray[np.void]
"""Rows of a cell, see ``row_type``."""

Pieces = Callable[[], Iterable[Rows]]
"""Reads the rows of a cell, some at a time; called more than once."""

LARGEST_CELL = 4 * ROWS_OF_CELL
"""Rows of a cell that are compared with each other at once."""

_BLOCK_COMPONENTS = 1 << 21
_MOST_PAIRS = 1 << 20
_STILL_LARGE = 0.5
_MOST_LEVELS = 2
_SHARED_ROWS = 64
_ROWS_AT_ONCE = 4096


def row_type(dimension: int) -> np.dtype[np.void]:
    """Returns the type of a row in a cell.

    Its fields: ``key``, the hash of its id, by which samples are drawn; ``place``, which tells it
    from all others; ``document``, as two rows of one document are no pair; ``vector``, of length 1.
    """
    return np.dtype(
        [
            ("key", "<u8"),
            ("place", "<i8"),
            ("document", "<u8"),
            ("vector", "<f4", (dimension,)),
        ]
    )


@dataclass(frozen=True)
class Limits:
    """How large cells may be.

    Attributes:
        largest: Rows that are compared with each other at once.
        meant: Rows that a piece of a larger cell is meant to have.
    """

    largest: int = LARGEST_CELL
    meant: int = ROWS_OF_CELL


def edges_of_cell(
    pieces: Pieces, rows: int, threshold: float, limits: Limits | None = None, level: int = 0
) -> Edges:
    """Finds which rows of a cell are connected by pairs at or above a threshold.

    Args:
        pieces: Reads the cell.
        rows: How many rows it has.
        threshold: Least cosine of a pair.
        limits: How large cells may be.
        level: How often it was parted.

    Returns:
        Places of rows, each with that of the least row it is connected with.
    """
    limits = limits or Limits()
    if rows <= limits.largest:
        return edges_within(list(pieces()), threshold)
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        found = _parted(pieces, rows, Path(folder), limits)
        if level == _MOST_LEVELS or max(part.rows for part in found) > _STILL_LARGE * rows:
            for part in found:
                part.path.unlink()
            found = _cut(pieces, rows, Path(folder), limits)
        edges = [
            # Cut by hash, it is no larger than that but for chance.
            edges_within(list(part()), threshold)
            if part.is_cut
            else edges_of_cell(part, part.rows, threshold, limits, level + 1)
            for part in found
        ]
    return np.concatenate([no_edges(), *edges])


def edges_within(pieces: Sequence[Rows], threshold: float) -> Edges:
    """Finds which of some rows are connected, by all products of two of them.

    Args:
        pieces: The rows; their order does not count, and a row may be there twice.
        threshold: Least cosine of a pair.
    """
    if not pieces:
        return no_edges()
    rows = np.concatenate(pieces)
    # The least row of a component must be the same one in whatever order they came.
    rows = rows[np.unique(rows["place"], return_index=True)[1]]
    vectors, documents = np.ascontiguousarray(rows["vector"]), rows["document"]
    count, known, waiting = len(rows), no_edges(), 0
    at_once = max(1, _BLOCK_COMPONENTS // max(1, count))
    found: list[Edges] = []
    for start in range(0, count, at_once):
        left, right = close_pairs(vectors[start : start + at_once], vectors[start:], threshold)
        apart = (right > left) & (documents[left + start] != documents[right + start])
        found.append(np.column_stack([left[apart], right[apart]]) + start)
        waiting += len(found[-1])
        if waiting > _MOST_PAIRS:
            known, found, waiting = _star_of(count, known, found), [], 0
    edges: Edges = rows["place"][_star_of(count, known, found)]
    return edges


def close_pairs(
    left: NDArray[np.float32], right: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the pairs with a cosine at or above a threshold, as rows of both matrices."""
    found = np.flatnonzero((left @ right.T).ravel() >= np.float32(threshold))
    return found // max(1, len(right)), found % max(1, len(right))


def _star_of(count: int, known: Edges, found: Sequence[Edges]) -> Edges:
    return star(components(count, np.concatenate([known, *found])))


@dataclass(frozen=True)
class _File:
    """Rows in a file of this machine."""

    path: Path
    dtype: np.dtype[np.void]
    rows: int
    is_cut: bool

    def __call__(self) -> Iterator[Rows]:
        with self.path.open("rb") as file:
            while len(rows := np.fromfile(file, self.dtype, _ROWS_AT_ONCE)):
                yield rows


def _parted(pieces: Pieces, rows: int, folder: Path, limits: Limits) -> list[_File]:
    """Parts a cell by k-means of a sample of it."""
    cells = max(2, cell_count(rows, limits.meant))
    sample = np.concatenate([piece[_drawn(piece, sample_size(cells), rows)] for piece in pieces()])
    if not len(sample):
        # Keys that are no hashes: the first rows are as good as any.
        sample = next(iter(pieces()))[: sample_size(cells)]
    ordered = np.lexsort((sample["place"], sample["key"]))
    centres = train_cells(sample["vector"][ordered], cells)
    return _written(pieces, folder, lambda piece: nearest_cells(piece["vector"], centres), False)


def _drawn(piece: Rows, wanted: int, rows: int) -> NDArray[np.bool_]:
    return drawn(piece["key"], wanted, rows)


def drawn(keys: NDArray[np.uint64], wanted: int, rows: int) -> NDArray[np.bool_]:
    """Tells which rows are in a sample of about so many of all, drawn by the hashes of ids.

    Args:
        keys: The hashes of some rows.
        wanted: Rows of the sample.
        rows: How many rows there are in all.
    """
    if wanted >= rows:
        return np.ones(len(keys), np.bool_)
    return keys < np.uint64((wanted << 64) // rows)


def _cut(pieces: Pieces, rows: int, folder: Path, limits: Limits) -> list[_File]:
    """Cuts a cell by the hashes of its rows; those with the least are in every piece."""
    shared: list[Rows] = []
    for piece in pieces():
        both = np.concatenate([*shared, piece])
        shared = [both[np.lexsort((both["place"], both["key"]))[:_SHARED_ROWS]]]
    cuts = max(2, -(-rows // limits.meant))

    def cut_of(piece: Rows) -> NDArray[np.int64]:
        # The hashes spread evenly, so their leading bits do.
        leading = piece["key"] >> np.uint64(32)
        cut: NDArray[np.int64] = (leading * np.uint64(cuts) >> np.uint64(32)).astype(np.int64)
        return cut[:, None]

    found = _written(pieces, folder, cut_of, True)
    for part in found:
        with writing_in(folder), part.path.open("ab") as file:
            file.write(shared[0].tobytes())
    return found


def _written(
    pieces: Pieces, folder: Path, cells_of: Callable[[Rows], NDArray[np.int64]], is_cut: bool
) -> list[_File]:
    counts: dict[int, int] = {}
    dtype = None
    for piece in pieces():
        dtype = piece.dtype
        for cell, rows in by_cell(piece, cells_of(piece)):
            counts[cell] = counts.get(cell, 0) + len(rows)
            with writing_in(folder), (folder / str(cell)).open("ab") as file:
                file.write(rows.tobytes())
    return [
        _File(folder / str(cell), dtype, count, is_cut)
        for cell, count in sorted(counts.items())
        if dtype is not None
    ]


def by_cell(rows: Rows, cells: NDArray[np.int64]) -> Iterator[tuple[int, Rows]]:
    """Yields the rows of each cell, with its number, in the order of the cells.

    Args:
        rows: Some rows.
        cells: The cells of each, shape (rows, any number).
    """
    numbers = cells.ravel()
    order = np.argsort(numbers, kind="stable")
    begins = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
        yield int(numbers[order[begin]]), rows[order[begin:end] // cells.shape[1]]
