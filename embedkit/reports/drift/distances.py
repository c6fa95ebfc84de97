"""How far the means and covariances of two sets of directions are apart, exact from their sums."""

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.second_moments import SecondMoments

_NOISE = 1e-14
"""Eigenvalues below this share of the largest are what rounding leaves of 0."""


def centroid_cosine(one: SecondMoments, two: SecondMoments) -> float | None:
    """Returns the cosine of both mean directions; None where one of them has no direction."""
    lengths = [float(np.sqrt(np.square(moments.mean).sum())) for moments in (one, two)]
    if not all(lengths):
        return None
    return float(np.clip(one.mean @ two.mean / (lengths[0] * lengths[1]), -1, 1))


def frechet(one: SecondMoments, two: SecondMoments) -> float | None:
    """Returns the squared Fréchet distance of the normal laws that have these moments.

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^(1/2)), after Dowson and Landau (Journal of
    Multivariate Analysis 12, 1982). S1 S2 has the eigenvalues of R S2 R, R being the root of S1,
    which is symmetric, so that no root of a general matrix is needed.

    Returns:
        None of vectors with so many dimensions that no products were kept.
    """
    if not (len(one.products) and len(two.products)):
        return None
    if np.array_equal(one.total, two.total) and np.array_equal(one.products, two.products):
        return 0.0
    apart = float(np.square(one.mean - two.mean).sum())
    return apart + _between(one.covariance, two.covariance)


def _between(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    values, directions = np.linalg.eigh(one)
    root = (directions * np.sqrt(_cleaned(values))) @ directions.T
    product = root @ two @ root
    values = _cleaned(np.linalg.eigvalsh((product + product.T) / 2))
    return max(0.0, float(np.trace(one) + np.trace(two) - 2 * np.sqrt(values).sum()))


def _cleaned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns eigenvalues of a matrix that has none below 0."""
    return np.where(values > _NOISE * values.max(initial=0), values, 0)
