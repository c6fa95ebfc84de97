"""How well a simple classifier tells from which of two samples a row is."""

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.second_moments import SecondMoments

FOLDS = 5
COMPONENTS = 32
"""Principal components that the classifier sees."""

LEAST_ROWS = 50
"""Rows that each sample has at least."""

_DECOMPOSED = 1000
"""Rows that tell the components of vectors whose products were not summed."""

_FLAT = 1e-12
_ITERATIONS = 50
_CONVERGED = 1e-9
_SAME = 9
"""Decimals in which two scores must differ, as sums differ by the order of their terms."""


def domain_auc(
    samples: tuple[NDArray[np.float32], NDArray[np.float32]],
    names: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    moments: SecondMoments,
) -> float | None:
    """Returns the mean area under the ROC curve over the folds of a cross-validation.

    A logistic regression is taught on principal components of both samples. Rows of one name are
    in one fold: else what both samples have in common would be learnt of the one and held against
    the other, which gives areas below a half.

    Args:
        samples: Vectors of length 1 of both samples, shapes (n, d) and (m, d).
        names: What tells their rows from one another, shapes (n,) and (m,).
        moments: Sums over all vectors of both.

    Returns:
        0.5 where samples cannot be told apart, 1 where they always are; None of too few rows.
    """
    if min(map(len, samples)) < LEAST_ROWS:
        return None
    features = components(np.concatenate(samples), moments)
    labels = np.repeat([0.0, 1.0], list(map(len, samples)))
    folds = np.concatenate(names) % np.uint64(FOLDS)
    areas = []
    for fold in range(FOLDS):
        held = folds == fold
        if len(np.unique(labels[held])) == len(np.unique(labels[~held])) == 2:
            weights = logistic_regression(features[~held], labels[~held])
            scores = features[held] @ weights[:-1]
            areas.append(roc_auc(np.round(scores, _SAME), labels[held]))
    return float(np.mean(areas)) if areas else None


def components(units: NDArray[np.float32], moments: SecondMoments) -> NDArray[np.float64]:
    """Returns rows as their principal components, each scaled to variance 1, shape (n, k).

    Args:
        units: Vectors of length 1, shape (n, d).
        moments: Sums over the vectors whose components these are; where no products are kept, the
            rows themselves tell them.
    """
    mean = moments.mean
    if len(moments.products):
        values, directions = np.linalg.eigh(moments.covariance)
        values, directions = values[::-1], directions[:, ::-1]
    else:
        step = -(-len(units) // _DECOMPOSED)
        rows = units[::step] - mean
        _, singular, transposed = np.linalg.svd(rows, full_matrices=False)
        values, directions = np.square(singular) / len(rows), transposed.T
    kept = np.flatnonzero(values[:COMPONENTS] > _FLAT)
    axes = directions[:, kept] / np.sqrt(values[kept])
    scores: NDArray[np.float64] = units.astype(np.float64) @ axes - mean @ axes
    return scores


def logistic_regression(
    features: NDArray[np.float64], labels: NDArray[np.float64], penalty: float = 1.0
) -> NDArray[np.float64]:
    """Fits a logistic regression by Newton's method.

    What becomes least is the sum of the logarithmic losses plus ``penalty / 2`` times the squared
    length of the weights, the constant not among them: scikit-learn's with ``C = 1 / penalty``.

    Args:
        features: Shape (n, k).
        labels: 0 or 1, shape (n,).
        penalty: See above.

    Returns:
        The weights and, last, the constant, shape (k + 1,).
    """
    rows = np.column_stack([features, np.ones(len(features))])
    ridge = np.full(rows.shape[1], penalty)
    # Just enough that a constant which nothing bounds leaves no singular matrix.
    ridge[-1] = 1e-12

    def loss(weights: NDArray[np.float64]) -> float:
        scores = rows @ weights
        losses = np.logaddexp(0, scores) - labels * scores
        return float(losses.sum() + ridge @ np.square(weights) / 2)

    weights = np.zeros(rows.shape[1])
    least = loss(weights)
    for _ in range(_ITERATIONS):
        chances = np.exp(-np.logaddexp(0, -(rows @ weights)))
        slope = rows.T @ (chances - labels) + ridge * weights
        curvature = (rows.T * (chances * (1 - chances))) @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        size = 1.0
        # A whole step may overshoot where chances are all but 0 and 1.
        while (found := loss(weights - size * step)) > least and size > _CONVERGED:
            size /= 2
        if found > least:
            break
        weights, least = weights - size * step, found
        if np.abs(size * step).max() < _CONVERGED:
            break
    return weights


def roc_auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Returns the chance that a row of label 1 has the higher score than one of label 0.

    Equal scores count as half, as in the U statistic of Mann and Whitney.

    Args:
        scores: Shape (n,).
        labels: 0 or 1, both among them, shape (n,).
    """
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    ones = float(labels.sum())
    zeros = len(labels) - ones
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))
