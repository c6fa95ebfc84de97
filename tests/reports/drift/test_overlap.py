"""How many neighbours are the same, against scikit-learn's exact search."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from embedkit.reports.drift import overlap
from embedkit.reports.drift.overlap import neighbour_overlap


def units(rows, seed, width=8):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def expected(one, two, queries):
    near = [
        NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute")
        .fit(side)
        .kneighbors(return_distance=False)
        for side in (one, two)
    ]
    pairs = zip(*(side[:queries] for side in near), strict=True)
    return np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])


@pytest.mark.parametrize("queries", [1000, 70])
def test_it_is_what_an_exact_search_gives(monkeypatch, queries):
    monkeypatch.setattr(overlap, "_QUERIES", queries)
    monkeypatch.setattr(overlap, "_AT_ONCE", 32)
    one = units(300, 1)
    two = one + 0.4 * units(300, 2)
    two = np.concatenate([two, units(300, 3, 4)], axis=1)
    two /= np.linalg.norm(two, axis=1, keepdims=True)
    found = neighbour_overlap(one, two)
    assert found == pytest.approx(expected(one, two, queries), abs=1e-12)
    assert 0.1 < found < 0.9


def test_equal_vectors_have_equal_neighbours_and_cost_nothing(monkeypatch):
    rows = units(50, 1)
    monkeypatch.setattr(overlap, "_nearest", lambda *given: pytest.fail("looked for"))
    assert neighbour_overlap(rows, rows.copy()) == 1


def test_of_equal_cosines_the_first_rows_count():
    one = np.repeat(units(2, 1), 20, axis=0)
    two = np.concatenate([one, np.zeros((40, 1), np.float32)], axis=1)
    assert neighbour_overlap(one, two) == 1


def test_few_rows_have_no_ten_neighbours():
    assert neighbour_overlap(units(10, 1), units(10, 2)) is None
    assert neighbour_overlap(units(11, 1), units(11, 2)) == 1
