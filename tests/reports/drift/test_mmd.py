"""The discrepancy of two samples, against its definition pair by pair."""

import itertools

import numpy as np
import pytest
from sklearn.metrics.pairwise import rbf_kernel

from embedkit.reports.drift import mmd
from embedkit.reports.drift.mmd import discrepancy


def units(rows, seed, shift=0.0, width=6):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    vectors[:, 0] += shift
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_pairs(one, two):
    """The unbiased estimate as Gretton et al. write it down, equation (3)."""
    rows = np.concatenate([one, two]).astype(np.float64)
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)]
    sigma = np.median(distances)

    def mean(left, right, leave_out):
        kernel = rbf_kernel(left, right, gamma=1 / (2 * sigma**2))
        if leave_out:
            return kernel[~np.eye(len(kernel), dtype=bool)].mean()
        return kernel.mean()

    found = mean(one, one, True) + mean(two, two, True) - 2 * mean(one, two, False)
    return found, sigma


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_it_is_what_all_pairs_give(shift):
    one, two = units(30, 1), units(21, 2, shift)
    found = discrepancy(one, two)
    expected, sigma = by_pairs(one, two)
    assert found.squared == pytest.approx(expected, abs=1e-6)
    assert found.bandwidth == pytest.approx(sigma, abs=1e-7)


def test_p_is_the_share_of_permutations_that_give_as_much(monkeypatch):
    monkeypatch.setattr(mmd, "PERMUTATIONS", 20)
    one, two = units(12, 1), units(9, 2, 0.4)
    found = discrepancy(one, two)
    rows = np.concatenate([one, two])
    random = np.random.default_rng(1)
    given = [by_pairs(one, two)[0]]
    for _ in range(20):
        first = random.permutation(21)[:12]
        others = np.setdiff1d(np.arange(21), first)
        given.append(by_pairs(rows[first], rows[others])[0])
    assert found.p == np.mean(np.array(given) >= given[0] - 1e-12)


def test_two_laws_are_told_and_one_law_is_not():
    assert discrepancy(units(200, 1), units(200, 2, 0.6)).p == 1 / 500
    found = [discrepancy(units(100, 10 + n), units(100, 50 + n)).p for n in range(30)]
    assert np.mean(np.array(found) < 0.05) < 0.2
    assert min(found) > 1 / 500


def test_samples_that_share_most_rows_are_of_one_law():
    rows = units(220, 1)
    found = discrepancy(rows[:200], rows[20:])
    assert found.squared < 0
    assert found.p > 0.9


def test_few_rows_and_equal_ones():
    assert discrepancy(units(1, 1), units(9, 1)) is None
    same = np.repeat(units(1, 1), 9, axis=0)
    assert discrepancy(same, same).p == 1
    mostly = np.concatenate([same, units(2, 3)])
    assert np.isfinite(discrepancy(same, mostly).squared)
