"""Whether two samples are of one law, by the maximum mean discrepancy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 499
"""Ways in which rows are dealt out to two samples anew; the least p-value is one in 500."""

_SEED = 1
_SAME = 12
"""Decimals in which two discrepancies must differ, as sums differ by the order of their terms."""


@dataclass(frozen=True)
class Discrepancy:
    """How two samples differ, after Gretton et al. (JMLR 13, 2012).

    Attributes:
        squared: The unbiased estimate of the squared discrepancy; below 0 where samples are more
            alike than two of one law usually are.
        p: Share of permutations of the rows that give as much; small where they are of two laws.
        bandwidth: Sigma of the kernel exp(-|x - y|^2 / (2 sigma^2)): the median distance.
    """

    squared: float
    p: float
    bandwidth: float


def discrepancy(one: NDArray[np.float32], two: NDArray[np.float32]) -> Discrepancy | None:
    """Compares two samples of unit vectors, in 8 (n + m)^2 bytes.

    Args:
        one: Vectors of length 1, shape (n, d).
        two: Vectors of length 1, shape (m, d).

    Returns:
        None of fewer than two rows in one of them.
    """
    if min(len(one), len(two)) < 2:
        return None
    rows = np.concatenate([one, two]).astype(np.float64)
    kernel = rows @ rows.T
    squared = np.maximum(2 - 2 * kernel, 0, out=kernel)
    bandwidth = float(np.sqrt(np.median(squared[np.triu_indices(len(rows), 1)])))
    if not bandwidth:
        # More than half of all pairs are equal vectors.
        bandwidth = float(np.sqrt(squared.mean()))
        if not bandwidth:
            return Discrepancy(0.0, 1.0, 0.0)
    kernel = np.exp(squared / (-2 * bandwidth**2), out=squared)
    np.fill_diagonal(kernel, 0)
    random = np.random.default_rng(_SEED)
    dealt = np.zeros((len(rows), 1 + PERMUTATIONS))
    dealt[: len(one), 0] = 1
    for column in range(1, 1 + PERMUTATIONS):
        dealt[random.permutation(len(rows))[: len(one)], column] = 1
    found = np.round(_unbiased(kernel, dealt, len(one), len(two)), _SAME)
    return Discrepancy(float(found[0]), float((found >= found[0]).mean()), bandwidth)


def _unbiased(
    kernel: NDArray[np.float64], dealt: NDArray[np.float64], n: int, m: int
) -> NDArray[np.float64]:
    """Returns the unbiased estimate of each way in which rows are dealt out.

    Args:
        kernel: The kernel of all pairs, its diagonal 0, shape (n + m, n + m).
        dealt: 1 where a row is in the first sample, else 0, shape (n + m, ways).
        n: Rows of the first sample.
        m: Rows of the second.
    """
    within = np.einsum("ij,ij->j", dealt, kernel @ dealt)
    touching = kernel.sum(axis=1) @ dealt
    across = touching - within
    others = kernel.sum() - touching - across
    found: NDArray[np.float64] = (
        within / (n * (n - 1)) + others / (m * (m - 1)) - 2 * across / (n * m)
    )
    return found
