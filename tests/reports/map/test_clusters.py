"""Clusters, their terms and their purity, against scikit-learn and sums by hand."""

import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from embedkit.reports.map.clusters import (
    Clusters,
    cluster_count,
    commonest,
    find_clusters,
    purity,
)
from embedkit.reports.map.terms import class_terms, terms_in


def blobs(rows=600, kinds=5, width=16, noise=0.15, seed=0):
    random = np.random.default_rng(seed)
    kind = random.integers(kinds, size=rows)
    vectors = np.eye(width)[kind] + random.normal(size=(rows, width)) * noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), kind


def lacking(monkeypatch, *names):
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("without", [(), ("faiss",)])
def test_planted_clusters_are_found_by_either_library(monkeypatch, without):
    if not without:
        pytest.importorskip("faiss", reason="faiss is not installed")
    lacking(monkeypatch, *without)
    units, kind = blobs()
    found = find_clusters(units)
    assert found.by == ("scikit-learn" if without else "faiss")
    assert cluster_count(len(units)) == 5
    assert adjusted_rand_score(kind, found.numbers) == 1
    sizes = np.bincount(found.numbers)
    assert (np.diff(sizes) <= 0).all()
    assert np.array_equal(find_clusters(units).numbers, found.numbers)
    rows = found.rows_of(2)
    centre = units[rows].mean(axis=0)
    cosines = units[rows] @ centre / np.linalg.norm(centre)
    assert cosines[0] == pytest.approx(cosines.max(), abs=1e-3)
    assert np.allclose(found.cosines[rows], cosines, atol=1e-2)


def test_without_either_library_there_are_none(monkeypatch):
    lacking(monkeypatch, "faiss", "sklearn", "sklearn.cluster")
    assert find_clusters(blobs()[0]) is None


def test_equal_rows_are_one_cluster():
    found = find_clusters(np.tile(np.float32([[0.6, 0.8]]), (200, 1)))
    assert found.numbers.max() == 0
    assert np.allclose(found.cosines, 1)


@pytest.mark.parametrize(("rows", "count"), [(200, 4), (2500, 10), (25_000, 30), (10**6, 30)])
def test_clusters_grow_with_the_root_of_rows_within_bounds(rows, count):
    assert cluster_count(rows) == count


def test_purity_is_that_of_a_contingency_matrix():
    random = np.random.default_rng(3)
    numbers, labels = random.integers(6, size=500), random.integers(4, size=500)
    clusters = Clusters(numbers.astype(np.int32), np.ones(500, np.float32), "x")
    table = contingency_matrix(labels, numbers)
    expected = table.max(axis=0).sum() / 500
    assert purity(list(map(str, labels)), clusters) == pytest.approx(expected, abs=1e-6)
    assert purity([None] * 500, clusters) == 0


def test_of_equally_common_values_the_least_is_told():
    assert commonest(["b", "a", None, None, None], np.arange(5)) == ("a", 1)


TEXTS = [
    "the ship sailed the sea", "a ship at sea", "the sea and the ship", "the old ship",
    "the bread was baked", "bake the bread", "bread of the baker", "flour for bread",
]  # fmt: skip


def test_terms_have_the_weights_of_the_formula():
    numbers = np.repeat([0, 1], 4).astype(np.int32)
    counter = CountVectorizer()
    counts = np.stack([counter.fit_transform(TEXTS).toarray()[numbers == one].sum(axis=0)
                       for one in (0, 1)])  # fmt: skip
    names = counter.get_feature_names_out()
    weights = np.sqrt(counts / counts.sum(axis=1, keepdims=True)) * np.log(
        1 + counts.sum() / 2 / counts.sum(axis=0)
    )
    in_texts = (CountVectorizer().fit_transform(TEXTS).toarray() > 0).sum(axis=0)
    usable = (in_texts >= 3) & (in_texts <= 4)
    expected = [
        [str(names[i]) for i in np.argsort(-row, kind="stable") if usable[i] and counts[n][i]]
        for n, row in enumerate(weights)
    ]
    assert class_terms(TEXTS, numbers) == expected == [["ship", "sea"], ["bread"]]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("It's A well-known U.S. x2", ["it's", "well-known", "x2"]),
        ("東京大学 and 東京", ["東京", "京大", "大学", "and", "東京"]),
        ("カレーライス", ["カレ", "レー", "ーラ", "ライ", "イス"]),
        ("Привет, ΜΗΤΈΡΑ", ["привет", "μητέρα"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("물고기 바다", ["물고기", "바다"]),
        ("123 !? \x00", []),
        ("", []),
    ],
)
def test_terms_of_scripts(text, terms):
    assert terms_in(text) == terms


def test_terms_of_thai_are_pairs_of_whole_characters():
    assert all(len(term) >= 2 for term in terms_in("น้ำทะเล"))
    assert terms_in("น้ำทะเล")


def test_a_cluster_without_texts_has_no_terms():
    assert class_terms(["", "", "ship ship"], np.array([0, 0, 1], np.int32)) == [[], []]
