"""Sums over vectors, against NumPy and SciPy on all of them at once."""

from dataclasses import fields
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from embedkit.reports.second_moments import MOST_DIMENSIONS, SecondMoments

WIDTH = 6


def units(vectors):
    rows = vectors.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def same(one, two):
    return all(
        np.array_equal(getattr(one, field.name), getattr(two, field.name))
        for field in fields(SecondMoments)
    )


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(3)
    return (random.normal(size=(3000, WIDTH)) * [9, 3, 1, 1, 0.1, 0.01] + 0.5).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_mean_and_covariance_are_those_of_numpy(vectors, dtype):
    stored = vectors.astype(dtype)
    moments = SecondMoments.of(stored)
    expected = units(stored)
    assert moments.count == 3000
    assert np.abs(moments.mean - expected.mean(axis=0)).max() < 1e-7
    assert np.abs(moments.covariance - np.cov(expected.T, bias=True)).max() < 1e-7
    cosines = cosine_similarity(stored.astype(np.float64))
    assert abs(moments.mean_cosine - cosines[np.triu_indices(3000, 1)].mean()) < 1e-7
    assert np.array_equal(moments.low, stored.min(axis=0).astype(np.float32))
    assert np.array_equal(moments.high, stored.max(axis=0).astype(np.float32))


def test_close_vectors_keep_their_digits():
    """The variance of a narrow cone is a small difference of large sums."""
    random = np.random.default_rng(1)
    narrow = (1 + 1e-3 * random.normal(size=(5000, 32))).astype(np.float32)
    expected = np.cov(units(narrow).T, bias=True)
    found = SecondMoments.of(narrow).covariance
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("blocks", [1, 7, 100])
def test_however_rows_are_cut_the_sums_are_the_same_bits(vectors, blocks):
    pieces = map(SecondMoments.of, np.array_split(vectors, blocks))
    assert same(reduce(lambda one, two: one + two, pieces), SecondMoments.of(vectors))


@settings(max_examples=30)
@given(st.permutations(range(5)), st.integers(0, 5), st.integers(1, 700))
def test_they_are_a_monoid(vectors, order, cut, rows):
    parts = [SecondMoments.of(vectors[n * rows : (n + 1) * rows]) for n in range(5)]
    shuffled = [parts[place] for place in order]
    one = sum(shuffled[:cut], SecondMoments()) + sum(shuffled[cut:], SecondMoments())
    assert same(one, sum(parts, SecondMoments()))
    assert same(one + SecondMoments(), one)
    assert same(SecondMoments() + one, one)


def test_rows_that_should_not_be_are_left_out():
    vectors = np.eye(6, 4, dtype=np.float32)
    vectors[4], vectors[5] = [np.nan, 0, 0, 0], [0, np.inf, 0, 0]
    vectors[3] = 0
    moments = SecondMoments.of(vectors)
    assert (moments.count, moments.constant) == (3, 1)
    assert moments.high.tolist() == [1, 1, 1, 0]
    assert np.allclose(moments.mean, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
    assert same(SecondMoments.of(vectors[4:]), SecondMoments())
    assert same(SecondMoments.of(np.empty((0, 3), np.float32)), SecondMoments())
    zeros = SecondMoments.of(np.zeros((2, 3), np.float32))
    assert (zeros.count, zeros.constant, zeros.mean_cosine) == (0, 2, None)
    assert not zeros.covariance.any()


def test_equal_vectors_have_a_mean_cosine_of_no_more_than_one():
    for seed in range(9):
        vectors = np.tile(np.random.default_rng(seed).normal(size=WIDTH), (30, 1))
        cosine = SecondMoments.of(vectors.astype(np.float32)).mean_cosine
        assert cosine == pytest.approx(1, abs=1e-4)
        assert cosine <= 1


def test_one_dimension_and_one_row():
    line = SecondMoments.of(np.array([[2.0], [-3.0], [1.0]], np.float32))
    assert line.mean_cosine == pytest.approx(-1 / 3)
    assert line.covariance[0, 0] == pytest.approx(8 / 9)
    alone = SecondMoments.of(np.ones((1, 3), np.float32))
    assert alone.mean_cosine is None
    assert np.abs(alone.covariance).max() < 1e-12


def test_the_largest_float32_does_not_overflow():
    largest = np.full((2, 4), np.finfo(np.float32).max, np.float32)
    assert SecondMoments.of(largest).mean_cosine == pytest.approx(1, abs=1e-5)


def test_of_very_long_vectors_no_products_are_kept():
    vectors = np.random.default_rng(0).normal(size=(3, MOST_DIMENSIONS + 1)).astype(np.float32)
    moments = SecondMoments.of(vectors) + SecondMoments.of(vectors)
    assert moments.products.shape == (0, 0)
    assert moments.count == 6
    assert len(moments.mean) == MOST_DIMENSIONS + 1


def test_vectors_of_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="vectors of 3 and of 4 dimensions"):
        SecondMoments.of(np.ones((1, 3), np.float32)) + SecondMoments.of(np.ones((1, 4), "f4"))
