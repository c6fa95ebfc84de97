import numpy as np
import pytest
from reporting import sample_of
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from embedkit.reports.neighbours import compare
from embedkit.reports.sample import Sample


@pytest.fixture(scope="module")
def sample(make_block):
    vectors = np.random.default_rng(11).normal(size=(300, 12)).astype(np.float32)
    return sample_of(make_block([f"text {n}" for n in range(300)], vectors))


def test_neighbours_are_those_of_scikit_learn(sample):
    search = NearestNeighbors(n_neighbors=2, metric="cosine").fit(sample.vectors)
    distances, _ = search.kneighbors(sample.vectors)
    found = compare(sample)
    assert np.abs(found.nearest - (1 - distances[:, 1])).max() < 2e-6
    assert (found.sampled, found.copies, found.unusable) == (300, 0, 0)


def test_pairs_are_those_of_scikit_learn(sample):
    cosines = cosine_similarity(sample.vectors.astype(np.float64))
    expected = cosines[np.triu_indices(300, 1)]
    found = compare(sample)
    assert np.abs(found.pairs - expected).max() < 1e-6
    assert found.closest[0].cosine == pytest.approx(expected.max(), abs=1e-6)


def test_the_closest_pair_is_shown_with_its_own_rows(sample):
    cosines = cosine_similarity(sample.vectors.astype(np.float64))
    np.fill_diagonal(cosines, -2)
    left, right = sorted(np.unravel_index(cosines.argmax(), cosines.shape))
    closest = compare(sample).closest[0]
    assert (closest.left, closest.right) == (sample.rows[left], sample.rows[right])


def test_a_row_is_shown_in_one_pair(sample):
    pairs = compare(sample).closest
    shown = [row.id for pair in pairs for row in (pair.left, pair.right)]
    assert len(shown) == len(set(shown)) == 20
    assert [pair.cosine for pair in pairs] == sorted((p.cosine for p in pairs), reverse=True)


def test_a_crowd_of_near_copies_does_not_fill_the_list(make_block):
    crowd = np.random.default_rng(1).normal(size=(40, 12)).astype(np.float32)
    crowd[:5] = 1
    found = compare(sample_of(make_block([f"text {n}" for n in range(40)], crowd)))
    assert sum(pair.cosine == 1 for pair in found.closest) == 2


def test_copies_of_a_text_are_set_aside(make_block):
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = vectors[0]
    found = compare(sample_of(make_block(["same", "same", "b", "c"], vectors)))
    assert (found.sampled, found.copies) == (4, 1)
    assert found.nearest.tolist() == [0, 0, 0]
    assert len(found.pairs) == 3


def test_vectors_without_direction_are_set_aside(make_block):
    vectors = np.ones((4, 3), np.float32)
    vectors[0], vectors[1, 0] = 0, np.nan
    found = compare(sample_of(make_block(["a", "b", "c", "d"], vectors)))
    assert found.unusable == 2
    assert found.nearest.tolist() == [1, 1]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_to_compare(make_block, count):
    sample = sample_of(make_block(["a"] * count, np.ones((count, 3), np.float32)))
    found = compare(sample)
    assert (len(found.nearest), len(found.pairs), found.closest) == (0, 0, ())


def test_chunks_of_one_document_are_not_compared(make_block):
    """Overlapping chunks, nearly the same vector, and every document's direction of its own."""
    generator = np.random.default_rng(3)
    documents = generator.normal(size=(20, 12))
    vectors = np.repeat(documents, 4, axis=0) + 1e-3 * generator.normal(size=(80, 12))
    block = make_block([f"text {n}" for n in range(80)], vectors.astype(np.float32), chunks=4)
    sample = sample_of(block)
    found = compare(sample)
    owners = np.array([row.doc_id for row in sample.rows])
    cosines = cosine_similarity(sample.vectors.astype(np.float64))
    cosines[owners[:, None] == owners[None, :]] = -2
    assert found.siblings == 20 * 6
    assert len(found.pairs) == 80 * 79 // 2 - 20 * 6
    assert np.abs(found.nearest - cosines.max(axis=1)).max() < 1e-6
    assert found.pairs.max() == pytest.approx(cosines.max(), abs=1e-6)
    assert all(pair.left.doc_id != pair.right.doc_id for pair in found.closest)


def test_one_document_alone_has_nothing_to_be_compared_with(make_block):
    found = compare(sample_of(make_block([f"text {n}" for n in range(6)], chunks=6)))
    assert (len(found.nearest), len(found.pairs), found.closest) == (0, 0, ())
    assert found.siblings == 15


def test_a_sample_of_nothing():
    found = compare(Sample())
    assert (found.sampled, len(found.nearest), found.closest) == (0, 0, ())
