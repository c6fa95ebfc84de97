"""Cells of alike unit vectors: k-means of a sample, and the two nearest cells of each row.

Two rows that are close are in one cell unless a border runs between them. With two cells for each
row that takes two borders, so few pairs are lost, and no row is compared with more than a cell.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""Unit vectors, shape (rows, dimension)."""

NEAREST = 2
"""Cells that a row goes to."""

MOST_CELLS = 1024
"""Cells of one level."""

ROWS_OF_CELL = 4096
"""Rows that a cell is meant to have, each row counted in both of its cells."""

_SAMPLE_OF_CELL = 48
_ITERATIONS = 10
_SEED = 1


def cell_count(rows: int, rows_of_cell: int = ROWS_OF_CELL) -> int:
    """Returns into how many cells so many rows are parted."""
    return max(1, min(MOST_CELLS, math.ceil(NEAREST * rows / rows_of_cell)))


def sample_size(cells: int) -> int:
    """Returns how many rows tell where so many cells are."""
    return _SAMPLE_OF_CELL * cells


def train_cells(sample: Matrix, cells: int) -> Matrix:
    """Finds the centres of cells by spherical k-means, the same for the same sample in its order.

    Args:
        sample: Rows drawn at random.
        cells: How many cells; no more than there are rows come out.

    Returns:
        Unit vectors, shape (cells, dimension).

    Raises:
        ImportError: faiss is not installed.
    """
    faiss = _faiss()
    kmeans = faiss.Kmeans(
        sample.shape[1],
        min(cells, len(sample)),
        niter=_ITERATIONS,
        seed=_SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    kmeans.train(np.ascontiguousarray(sample, np.float32))
    centres: Matrix = kmeans.centroids
    return centres


def nearest_cells(vectors: Matrix, centres: Matrix) -> NDArray[np.int64]:
    """Returns the cells that each row goes to, nearest first, shape (rows, 1 or 2).

    Args:
        vectors: The rows.
        centres: What ``train_cells`` gave.

    Raises:
        ImportError: faiss is not installed, and there is more than one cell.
    """
    if len(centres) == 1:
        return np.zeros((len(vectors), 1), np.int64)
    index = _faiss().IndexFlatIP(centres.shape[1])
    index.add(np.ascontiguousarray(centres))
    cells: NDArray[np.int64] = index.search(np.ascontiguousarray(vectors), NEAREST)[1]
    return cells


def _faiss() -> Any:
    # It takes a while to load, and small versions do without it.
    import faiss

    return faiss
