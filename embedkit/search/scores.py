"""How near vectors are, computed anew in float64 for what must be exact."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scores_of(
    queries: NDArray[np.floating[Any]], vectors: NDArray[np.floating[Any]], metric: str
) -> NDArray[np.float64]:
    """Scores vectors against queries in float64; higher is nearer.

    Args:
        queries: Shape (queries, dimension).
        vectors: Shape (rows, dimension).
        metric: cosine, dot, euclidean or manhattan; of distances the negative counts.

    Returns:
        Scores, shape (queries, rows).
    """
    left, right = queries.astype(np.float64), vectors.astype(np.float64)
    scores: NDArray[np.float64]
    if metric == "manhattan":
        scores = np.stack([-np.abs(right - one).sum(axis=1) for one in left])
        return scores
    if metric == "cosine":
        left, right = directions(left), directions(right)
    scores = left @ right.T
    if metric == "euclidean":
        squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)
        scores = -np.sqrt(np.maximum(squares - 2 * scores, 0))
    # Equal vectors have equal scores wherever they stand in a product of matrices.
    return np.round(scores, 12)


def directions(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns vectors scaled to length 1 in float64, shape (rows, dimension); zeros stay zeros."""
    exact = vectors.astype(np.float64, copy=False)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    scaled: NDArray[np.float64] = exact / np.where(lengths > 0, lengths, 1.0)
    return scaled
