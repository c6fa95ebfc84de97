"""Places of rows by t-SNE, so that rows are near their neighbours; it goes on from an earlier map.

Everything runs on one thread: of sums in another order the least bit of difference ends in another
map, and of so few rows further threads cost more than they do.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.map.components import Places, in_one_place

SEED = 1

_PERPLEXITY = 30
_NEIGHBOURS = 3 * _PERPLEXITY
_EXACT_ROWS = 5000
_PROBED = 8
_TRAINED_ON = 64
_TREE_ROWS = 2500
"""Rows up to which a tree of points is quicker than interpolation on a grid."""

_LAID_FIRST = 2500
_EXAGGERATION = 12
_TEARING, _SETTLING, _ONWARD = 200, 250, 40
_BESIDE = 5


def is_installed() -> bool:
    """Whether what it takes is installed: openTSNE and faiss."""
    # Not imported, which takes a second that a map which stays as it was does not need.
    return all(importlib.util.find_spec(name) is not None for name in ("faiss", "openTSNE"))


def lay_out(units: NDArray[np.float32], start: Places) -> Places:
    """Places rows by t-SNE, after van der Maaten and Hinton (JMLR 9, 2008).

    Of many the first ones are placed, and then all from there, which is quicker and keeps the shape
    of the whole (Kobak and Berens, Nature Communications 10, 2019).

    Args:
        units: Vectors of length 1, float32, shape (n, d), in an order that says nothing of them.
        start: Where they begin, such as by their principal components. If the first rows are in
            one place there, nothing drives them apart, and this is what is returned.
    """
    first = units[:_LAID_FIRST]
    if in_one_place(start[: len(first)]):
        # Where all are, openTSNE reads beyond its grid, which ends the process.
        return start
    scaled = start[: len(first)] / max(float(start[: len(first), 0].std()), 1e-12) * 1e-4
    map_ = _begun(first, scaled).optimize(_TEARING, exaggeration=_EXAGGERATION, momentum=0.5)
    places = np.asarray(map_.optimize(_SETTLING, momentum=0.8), np.float64)
    if len(first) == len(units):
        return places
    known = np.arange(len(units)) < len(first)
    return go_on(units, put_beside(units, np.resize(places, (len(units), 2)), known))


def go_on(units: NDArray[np.float32], places: Places) -> Places:
    """Goes on from a map, without the exaggeration that would tear it apart.

    Args:
        units: Vectors of length 1, float32, shape (n, d).
        places: Where they are.
    """
    return np.asarray(_begun(units, places).optimize(_ONWARD, momentum=0.5), np.float64)


def put_beside(units: NDArray[np.float32], places: Places, known: NDArray[np.bool_]) -> Places:
    """Puts rows in the middle of their nearest neighbours that are on a map.

    Args:
        units: Vectors of length 1, float32, shape (n, d).
        places: The map.
        known: Which rows it has, shape (n,).

    Returns:
        The map with all rows.
    """
    import faiss

    with _one_thread(faiss):
        index = faiss.IndexFlatIP(units.shape[1])
        index.add(np.ascontiguousarray(units[known]))
        _, near = index.search(np.ascontiguousarray(units[~known]), min(_BESIDE, index.ntotal))
    found = places.copy()
    found[~known] = np.median(places[known][near], axis=1)
    return found


def _begun(units: NDArray[np.float32], places: Places) -> Any:
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    rows, distances = neighbours_of(units)
    near = PerplexityBasedNN(
        knn_index=PrecomputedNeighbors(rows, distances),
        perplexity=min(_PERPLEXITY, rows.shape[1] / 3),
        n_jobs=1,
        random_state=SEED,
    )
    method = "bh" if len(places) <= _TREE_ROWS else "fft"
    return TSNEEmbedding(places, near, negative_gradient_method=method, n_jobs=1, random_state=SEED)


def neighbours_of(
    units: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Finds the nearest others of each row by faiss, of many rows among those of near cells.

    Returns:
        Which rows they are, int64, shape (n, k), and how far, float32, shape (n, k).
    """
    import faiss

    units = np.ascontiguousarray(units)
    with _one_thread(faiss):
        squares, rows = _searched(faiss, units, min(_NEIGHBOURS, len(units) - 1) + 1)
    # Of equal rows another one may come first.
    itself = rows == np.arange(len(rows))[:, None]
    order = np.argsort(~itself, axis=1, kind="stable")[:, 1:]
    rows = np.take_along_axis(rows, order, axis=1)
    squares = np.take_along_axis(squares, order, axis=1)
    # Cells may hold too few.
    lacking = rows < 0
    rows = np.where(lacking, np.maximum(rows[:, :1], 0), rows)
    squares = np.where(lacking, 4.0, squares)
    return rows, np.sqrt(np.maximum(squares, 0)).astype(np.float32)


def _searched(faiss: Any, units: NDArray[np.float32], k: int) -> Any:
    index = faiss.IndexFlatL2(units.shape[1])
    if len(units) > _EXACT_ROWS:
        index = faiss.IndexIVFFlat(index, units.shape[1], int(np.sqrt(len(units))))
        index.nprobe = _PROBED
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, _TRAINED_ON
        index.train(units)
    index.add(units)
    return index.search(units, k)


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
