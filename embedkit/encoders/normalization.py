"""Normalizes vectors in float32, and finds those that cannot be right."""

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12
_TOLERANCE = 1e-3


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales vectors to length 1; a zero vector stays zero, as torch's ``normalize`` leaves it.

    Args:
        vectors: Shape (rows, dimension).

    Returns:
        New vectors, float32, of the same shape.
    """
    # Components that are not finite stay so; whoever looks for them uses doubtful_rows.
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        scaled: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(_TINY))
    return scaled


def doubtful_rows(vectors: NDArray[np.float32], unit_length: bool) -> NDArray[np.intp]:
    """Finds vectors that a backend should not have produced.

    Args:
        vectors: Shape (rows, dimension).
        unit_length: Whether they should have length 1.

    Returns:
        Numbers of the rows that are not finite, or not of length 1 where they should be.
    """
    # A square overflows where a component does not, and says no more than isfinite does.
    with np.errstate(over="ignore", invalid="ignore"):
        good = np.isfinite(vectors).all(axis=1)
        if unit_length:
            good &= np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _TOLERANCE
    return np.flatnonzero(~good)
