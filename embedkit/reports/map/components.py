"""Places of rows by their first two principal components, and maps turned onto each other."""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.float64]
"""Places on a plane, shape (n, 2)."""

_SUBSPACE = 16
_ITERATIONS = 40
_SEED = 1


def principal_axes(
    covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Returns the two directions of the largest variance, and which share of it they have.

    Each points to where its largest coefficient is positive, so that its sign is no accident.

    Args:
        covariance: Shape (d, d).

    Returns:
        The directions, shape (d, 2), the second zero where d is 1, and their shares.
    """
    values, vectors = np.linalg.eigh(covariance)
    return _first_two(values, vectors, float(values.sum()))


def axes_of_rows(units: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Returns ``principal_axes`` of rows with so many dimensions that these have no covariance.

    By subspace iteration (Halko, Martinsson and Tropp, SIAM Review 53, 2011, algorithm 4.4).

    Args:
        units: Shape (n, d).
    """
    middle = units.mean(axis=0, dtype=np.float64)
    random = np.random.default_rng(_SEED)
    basis = random.standard_normal((units.shape[1], min(_SUBSPACE, *units.shape)))
    apart = (units - middle).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis, _ = np.linalg.qr(apart.T @ (apart @ basis.astype(np.float32)).astype(np.float64))
    seen = apart.astype(np.float64) @ basis
    values, turn = np.linalg.eigh(seen.T @ seen)
    return _first_two(values, basis @ turn, float(np.square(apart, dtype=np.float64).sum()))


def _first_two(
    values: NDArray[np.float64], vectors: NDArray[np.float64], variance: float
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    axes = np.zeros((len(vectors), 2))
    shares = [0.0, 0.0]
    for place in range(min(2, len(values))):
        axis = vectors[:, -1 - place]
        axes[:, place] = axis * np.sign(axis[np.abs(axis).argmax()])
        if variance > 0:
            shares[place] = round(max(0.0, float(values[-1 - place])) / variance, 4)
    return axes, (shares[0], shares[1])


def turned(places: Places, earlier: Places, known: NDArray[np.bool_]) -> Places:
    """Turns and mirrors a map so that it is as near as can be to an earlier one.

    It is the orthogonal Procrustes problem (Schoenemann, Psychometrika 31, 1966).

    Args:
        places: The map.
        earlier: The earlier one.
        known: Which rows are on both.
    """
    middle, aim = places[known].mean(axis=0), earlier[known].mean(axis=0)
    left, _, right = np.linalg.svd((places[known] - middle).T @ (earlier[known] - aim))
    found: Places = (places - middle) @ (left @ right) + aim
    return found


def in_one_place(places: Places) -> bool:
    """Whether all rows of a map are in one place."""
    return not np.ptp(places, axis=0).any()


def extent(places: Places) -> float:
    """Returns the size of a map: the root mean square distance of its rows from their middle."""
    return float(np.sqrt(np.square(places - places.mean(axis=0)).sum(axis=1).mean()))
