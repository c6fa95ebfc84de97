"""How far moments are apart, against SciPy's root of a matrix and all pairs."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from embedkit.reports import second_moments
from embedkit.reports.drift.distances import centroid_cosine, frechet
from embedkit.reports.second_moments import SecondMoments


def directions(rows, width, seed, shift=0.0, dtype=np.float32):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, width)) * random.uniform(0.2, 2, width)
    vectors[:, 0] += shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def expected_frechet(one, two):
    covariances = [np.cov(side, rowvar=False, bias=True) for side in (one, two)]
    root = sqrtm(covariances[0] @ covariances[1])
    means = one.mean(axis=0) - two.mean(axis=0)
    return means @ means + np.trace(sum(covariances) - 2 * root.real)


@pytest.mark.parametrize(("width", "shift"), [(2, 0.3), (5, 0.0), (24, 0.7), (24, 5.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_they_are_what_scipy_gives(width, shift, dtype):
    one, two = directions(300, width, 1, 0.1, dtype), directions(200, width, 2, shift, dtype)
    moments = [SecondMoments.of(side) for side in (one, two)]
    units = [side.astype(np.float64) for side in (one, two)]
    units = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in units]
    assert frechet(*moments) == pytest.approx(expected_frechet(*units), abs=2e-5)
    assert frechet(*moments) == pytest.approx(frechet(*reversed(moments)), abs=1e-9)
    means = [side.mean(axis=0) for side in units]
    cosine = means[0] @ means[1] / np.prod([np.linalg.norm(mean) for mean in means])
    assert centroid_cosine(*moments) == pytest.approx(cosine, abs=2e-5)


def test_fewer_rows_than_dimensions_leave_a_singular_covariance():
    one, two = directions(10, 40, 1), directions(12, 40, 2, 0.5)
    found = frechet(SecondMoments.of(one), SecondMoments.of(two))
    assert found == pytest.approx(expected_frechet(one, two), abs=1e-4)


def test_equal_rows_are_not_apart():
    moments = SecondMoments.of(directions(50, 16, 1))
    assert frechet(moments, moments) == 0
    assert centroid_cosine(moments, moments) == pytest.approx(1, abs=1e-12)
    twice = moments + moments
    assert frechet(moments, twice) == pytest.approx(0, abs=1e-7)


def test_what_is_not_known_is_none(monkeypatch):
    monkeypatch.setattr(second_moments, "MOST_DIMENSIONS", 8)
    one, two = (SecondMoments.of(directions(20, 9, seed)) for seed in (1, 2))
    assert frechet(one, two) is None
    assert centroid_cosine(one, two) is not None
    opposite = np.array([[1, 0], [-1, 0]], np.float32)
    assert centroid_cosine(SecondMoments.of(opposite), SecondMoments.of(opposite)) is None
