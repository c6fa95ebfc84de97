"""Rankings against a plain sort of all scores, and their measures against hand counts."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import ndcg_score

from embedkit.search.evaluate.measures import NAMES, measure
from embedkit.search.evaluate.ranking import Ranking
from embedkit.search.scores import scores_of

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize(
    ("metric", "other"),
    [("cosine", "cosine"), ("euclidean", "euclidean"), ("manhattan", "cityblock"), ("dot", None)],
)
def test_scores_are_those_of_every_metric(metric, other):
    queries, rows = RANDOM.normal(size=(7, 12)), RANDOM.normal(size=(30, 12))
    if other is None:
        expected = queries @ rows.T
    else:
        expected = (1 if metric == "cosine" else 0) - cdist(queries, rows, other)
    np.testing.assert_allclose(scores_of(queries, rows, metric), expected, rtol=0, atol=1e-9)


def test_a_vector_of_zeros_is_near_to_nothing():
    assert scores_of(np.ones((1, 2)), np.zeros((1, 2)), "cosine").tolist() == [[0.0]]


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
@pytest.mark.parametrize("depth", [3, 50, 1000])
def test_the_best_row_of_a_document_counts_however_rows_are_cut(batch, depth):
    random = np.random.default_rng(9)
    # Few different values, so that many scores are equal; chunks of a document lie anywhere.
    scores = random.integers(0, 12, (5, 300)).astype(float)
    documents = random.integers(0, 90, 300)
    ranking = Ranking(5, depth)
    for start in range(0, 300, batch):
        part = slice(start, start + batch)
        ranking.add(0, documents[part], scores[:2, part])
        ranking.add(2, documents[part], scores[2:, part])
    for query in range(5):
        best = {one: scores[query][documents == one].max() for one in set(documents.tolist())}
        expected = sorted(best, key=lambda one: (-best[one], one))[:depth]
        assert ranking.documents(query).tolist() == expected
        assert ranking.scores(query).tolist() == [best[one] for one in expected]


def test_what_a_query_may_not_find_it_does_not():
    ranking = Ranking(1, 3)
    ranking.add(0, np.arange(3), np.array([[1.0, -np.inf, 2.0]]))
    assert ranking.documents(0).tolist() == [2, 0]


def test_measures_counted_by_hand():
    gains = {"a": {"x": 1, "y": 3, "z": 0}, "b": {"x": 2}}
    found = measure(gains, {"a": ["z", "y", "w", "x"], "b": ["w"]})
    ideal = 3 + 1 / math.log2(3)
    expected = {
        "ndcg@10": [(3 / math.log2(3) + 1 / math.log2(5)) / ideal, 0],
        "recall@100": [1, 0],
        "mrr@10": [1 / 2, 0],
        "map": [(1 / 2 + 2 / 4) / 2, 0],
    }
    assert set(found.by_query) == set(NAMES)
    for name, values in expected.items():
        assert found.by_query[name].tolist() == pytest.approx(values), name
        assert found.means[name] == pytest.approx(sum(values) / 2)


def test_ndcg_is_scikit_learn_s_and_depths_are_kept():
    scores, gains = RANDOM.random((6, 300)), RANDOM.integers(0, 4, (6, 300))
    names = [f"d{number:03}" for number in range(300)]
    order = np.argsort(-scores, axis=1)
    found = measure(
        {f"q{q}": dict(zip(names, map(int, gains[q]), strict=True)) for q in range(6)},
        {f"q{q}": [names[place] for place in order[q]] for q in range(6)},
    )
    expected = [ndcg_score(gains[q : q + 1], scores[q : q + 1], k=10) for q in range(6)]
    assert found.by_query["ndcg@10"].tolist() == pytest.approx(expected)
    relevant = gains > 0
    inside = [relevant[q][order[q][:100]].sum() / relevant[q].sum() for q in range(6)]
    assert found.by_query["recall@100"].tolist() == pytest.approx(inside)


def test_a_first_answer_behind_the_tenth_place_is_none():
    others = [f"o{number}" for number in range(10)]
    found = measure({"a": {"x": 1}, "b": {"x": 1}}, {"a": [*others, "x"], "b": [*others[1:], "x"]})
    assert found.by_query["mrr@10"].tolist() == [0, pytest.approx(0.1)]
    assert found.by_query["map"].tolist() == pytest.approx([1 / 11, 1 / 10])
