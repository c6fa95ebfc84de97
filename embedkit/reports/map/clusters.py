"""Clusters of alike unit vectors by spherical k-means, and how well they agree with other parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS = 1000
"""Rows of a sample below which it is not parted into clusters."""

FEWEST, MOST = 4, 30
"""Clusters that there are at least, and at most: as many as a person looks through."""

_ROOT_SHARE = 0.2
_ITERATIONS = 20
_TRIES = 3
_SEED = 1
_ROWS_OF_CLUSTER = 256
"""Rows for each cluster that tell where its centre is; more hardly move it."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """A cluster for each row, the largest cluster first.

    Attributes:
        numbers: The cluster of each row, from 0, int32, shape (n,).
        cosines: Its cosine to the centre of that, float32, shape (n,).
        by: What found them, ``faiss`` or ``scikit-learn``.
    """

    numbers: NDArray[np.int32]
    cosines: NDArray[np.float32]
    by: str

    def rows_of(self, number: int) -> NDArray[np.int64]:
        """Returns the rows of a cluster, those nearest to its centre first."""
        rows = np.flatnonzero(self.numbers == number)
        # Rounded, so that the order in which a product adds does not choose among equal ones.
        return rows[np.argsort(-np.round(self.cosines[rows], 5), kind="stable")]


def cluster_count(rows: int) -> int:
    """Returns into how many clusters so many rows are parted: a fifth of their square root."""
    return max(FEWEST, min(MOST, round(_ROOT_SHARE * math.sqrt(rows))))


def may_be_parted(rows: int) -> bool:
    """Whether a sample of so many rows is parted; few have no clusters to speak of."""
    return rows >= LEAST_ROWS


def clusters_of(units: NDArray[np.float32]) -> Clusters | str:
    """Finds clusters of rows with different texts, or says why it does not.

    Args:
        units: Their vectors, see ``find_clusters``.
    """
    if not may_be_parted(len(units)):
        return "too few rows of the sample have different texts"
    return find_clusters(units) or (
        "they take faiss or scikit-learn; install faiss-cpu, which is the extra report of embedkit"
    )


def find_clusters(units: NDArray[np.float32]) -> Clusters | None:
    """Finds clusters of rows, the same for the same rows in their order.

    Args:
        units: Vectors of length 1, float32, shape (n, d), in an order that says nothing of them.

    Returns:
        None where neither faiss nor scikit-learn is installed.
    """
    count = cluster_count(len(units))
    found = _centres(np.ascontiguousarray(units[: _ROWS_OF_CLUSTER * count]), count)
    if found is None:
        return None
    centres, by = found
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    cosines = units @ (centres / np.where(lengths > 0, lengths, 1)).T
    nearest = cosines.argmax(axis=1)
    names, first, sizes = np.unique(nearest, return_index=True, return_counts=True)
    ranks = np.zeros(len(centres), np.int32)
    ranks[names[np.lexsort((first, -sizes))]] = np.arange(len(names))
    return Clusters(ranks[nearest], cosines[np.arange(len(units)), nearest], by)


def _centres(units: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], str] | None:
    # Either takes a while to load, and small versions do without.
    try:
        return _centres_of_faiss(units, count), "faiss"
    except ImportError:
        pass
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        return None
    fitted = KMeans(count, n_init=_TRIES, max_iter=_ITERATIONS, random_state=_SEED).fit(units)
    return fitted.cluster_centers_, "scikit-learn"


def _centres_of_faiss(units: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    import faiss

    kmeans: Any = faiss.Kmeans(
        units.shape[1],
        count,
        niter=_ITERATIONS,
        nredo=_TRIES,
        seed=_SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(units),
    )
    threads = faiss.omp_get_max_threads()
    # So few rows are done before further threads have begun, which cost more than they do.
    faiss.omp_set_num_threads(1)
    try:
        kmeans.train(units)
    finally:
        faiss.omp_set_num_threads(threads)
    centres: NDArray[np.float32] = kmeans.centroids
    return centres


def commonest(values: Sequence[str | None], rows: NDArray[np.int64]) -> tuple[str | None, int]:
    """Returns the value that most of some rows have, of equally common ones the least."""
    counts: dict[str, int] = {}
    for row in rows.tolist():
        value = values[row]
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    if not counts:
        return None, 0
    value = min(counts, key=lambda one: (-counts[one], one))
    return value, counts[value]


def purity(values: Sequence[str | None], clusters: Clusters) -> float:
    """Returns the share of rows that have the commonest value of their cluster.

    As in Manning, Raghavan and Schuetze, Introduction to Information Retrieval (2008), 16.3; rows
    without a value count as ones without that.
    """
    count = int(clusters.numbers.max(initial=-1)) + 1
    common = (commonest(values, np.flatnonzero(clusters.numbers == one))[1] for one in range(count))
    return round(sum(common) / max(1, len(values)), 6)
