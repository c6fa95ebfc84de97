from hashlib import blake2b

import numpy as np
import pytest
from near_rows import brute_force, clustered, groups, pairs_in, shared_pairs, unit

from embedkit.reports.near.cells import cell_count, nearest_cells, sample_size, train_cells
from embedkit.reports.near.components import joined
from embedkit.reports.near.pairs import Limits, close_pairs, edges_of_cell, edges_within, row_type

THRESHOLD = 0.95
SMALL = Limits(largest=256, meant=64)


def rows_of(vectors, documents=None):
    rows = np.zeros(len(vectors), row_type(vectors.shape[1]))
    rows["place"] = np.arange(len(vectors))
    rows["key"] = [
        int.from_bytes(blake2b(b"%d" % row, digest_size=8).digest(), "little")
        for row in range(len(vectors))
    ]
    rows["document"] = rows["place"] if documents is None else documents
    rows["vector"] = vectors
    return rows


def found(edges):
    return groups(*joined(edges))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_cell_gives_the_groups_of_brute_force(dtype):
    vectors = unit(clustered(2000).astype(dtype))
    expected = brute_force(vectors, THRESHOLD)
    assert len(expected) > 50
    assert found(edges_within([rows_of(vectors)], THRESHOLD)) == expected


def test_edges_are_few_however_many_pairs_there_are():
    vectors = unit(np.ones((3000, 8)) + 1e-3 * np.random.default_rng(0).random((3000, 8)))
    edges = edges_within([rows_of(vectors)], THRESHOLD)
    assert len(edges) == 2999
    assert found(edges) == {frozenset(range(3000))}


def test_the_order_of_rows_and_pieces_does_not_count():
    rows = rows_of(clustered(1500))
    expected = edges_within([rows], THRESHOLD)
    mixed = rows[np.random.default_rng(3).permutation(len(rows))]
    again = edges_within([mixed[:700], mixed[500:], mixed[:100]], THRESHOLD)
    assert again.tolist() == expected.tolist()


def test_rows_of_one_document_are_no_pair():
    vectors = unit([[1, 0], [1, 0.01], [0, 1], [0.01, 1]])
    assert found(edges_within([rows_of(vectors, [1, 1, 2, 3])], THRESHOLD)) == {frozenset({2, 3})}


def test_a_fat_cell_is_parted_and_loses_few_pairs():
    vectors = clustered(3000, dimension=64)
    rows = rows_of(vectors)
    edges = edges_of_cell(lambda: np.array_split(rows, 7), len(rows), THRESHOLD, Limits(1024, 256))
    ours, expected = found(edges), brute_force(vectors, THRESHOLD)
    # Only true pairs join rows, so each group is a part of a true one.
    assert all(any(one <= other for other in expected) for one in ours)
    assert shared_pairs(ours, expected) >= 0.98 * pairs_in(expected)


def test_a_parted_cell_is_the_same_in_whatever_pieces_it_comes():
    rows = rows_of(clustered(1500))
    expected = found(edges_of_cell(lambda: [rows], len(rows), THRESHOLD, SMALL))
    mixed = rows[np.random.default_rng(5).permutation(len(rows))]
    parts = np.array_split(mixed, 11)
    assert found(edges_of_cell(lambda: parts, len(rows), THRESHOLD, SMALL)) == expected


@pytest.mark.parametrize("spread", [0, 1e-6, 1e-4])
def test_a_cell_of_rows_at_one_point_is_one_group(spread):
    random = np.random.default_rng(0)
    vectors = unit(np.ones((1500, 16)) + spread * random.standard_normal((1500, 16)))
    rows = rows_of(vectors)
    edges = edges_of_cell(lambda: [rows], len(rows), THRESHOLD, SMALL)
    assert found(edges) == {frozenset(range(1500))}


def test_orthogonal_rows_are_no_group():
    rows = rows_of(np.eye(600, dtype=np.float32))
    assert not len(edges_of_cell(lambda: [rows], len(rows), THRESHOLD, SMALL))


def test_no_rows_are_no_group():
    empty = rows_of(np.empty((0, 4), np.float32))
    assert not len(edges_within([empty], THRESHOLD))
    assert not len(edges_within([], THRESHOLD))
    assert not len(edges_of_cell(lambda: [], 0, THRESHOLD))


def test_pairs_at_the_threshold_count():
    left, right = close_pairs(np.float32([[1, 0]]), np.float32([[0.5, 0.1], [0.4, 1]]), 0.5)
    assert (left.tolist(), right.tolist()) == ([0], [0])


def test_cells_follow_their_number_of_rows():
    assert cell_count(0) == cell_count(1000) == 1
    assert cell_count(100_000) == 49
    assert cell_count(10**9) == 1024
    assert sample_size(2) == 96


def test_cells_are_the_same_each_time_and_nearest_comes_first():
    vectors = clustered(1200)
    centres = train_cells(vectors, 16)
    assert (train_cells(vectors, 16) == centres).all()
    assert np.linalg.norm(centres, axis=1) == pytest.approx(np.ones(16), abs=1e-5)
    cells = nearest_cells(vectors, centres)
    assert cells.shape == (1200, 2)
    assert (cells[:, 0] == np.argmax(vectors @ centres.T, axis=1)).all()
    assert (nearest_cells(vectors, centres[:1]) == 0).all()


def test_no_more_cells_than_rows_of_the_sample():
    assert train_cells(clustered(3), 16).shape == (3, 48)
