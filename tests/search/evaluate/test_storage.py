"""What storage costs, against plain NumPy over all rows at once, and known items by hand."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from sentence_transformers.util.quantization import quantize_embeddings
from sklearn.metrics import ndcg_score

from embedkit.search.evaluate import storage
from embedkit.search.evaluate.storage import sampled_queries, storage_costs

ROWS, DIMENSION, QUERIES = 700, 96, 30


@dataclass
class InMemory:
    """Documents of one row each, in batches that are not all of one size."""

    vectors: np.ndarray

    @property
    def names(self) -> list[str]:
        return [f"d{number:04}" for number in range(len(self.vectors))]

    known = property(lambda self: set(self.names))
    origin = "version"

    def rows(self):
        for start in range(0, len(self.vectors), 256):
            some = self.vectors[start : start + 256]
            yield np.arange(start, start + len(some)), some

    def excerpts(self, names: Iterable[str]) -> dict[str, str]:
        return {}


def units(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(8)
    # Components of very different sizes, of which the first matter most.
    return units(random.normal(size=(ROWS, DIMENSION)) * np.geomspace(3, 0.1, DIMENSION) + 0.05)


@pytest.fixture(scope="module")
def queries(vectors) -> np.ndarray:
    random = np.random.default_rng(9)
    return units(vectors[:QUERIES] + 0.06 * random.normal(size=(QUERIES, DIMENSION)))


def first(scores: np.ndarray, count: int = 10) -> list[list[int]]:
    return [np.lexsort((np.arange(len(row)), -row))[:count].tolist() for row in scores]


def by_signs(vectors, queries) -> np.ndarray:
    bits = [quantize_embeddings(one, precision="ubinary") for one in (queries, vectors)]
    # Popcount of the exclusive or, as an index of bits has it.
    return -np.bitwise_count(bits[0][:, None] ^ bits[1][None]).sum(axis=2).astype(float)


def rescored(scores: np.ndarray, better: np.ndarray, candidates: int) -> np.ndarray:
    again = np.full_like(scores, -np.inf)
    for query, row in enumerate(first(scores, candidates)):
        again[query, row] = better[query, row]
    return again


def read_back(vectors) -> np.ndarray:
    codes = quantize_embeddings(vectors, precision="int8").astype(float)
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    return low + (codes + 128.5) * (high - low) / 255


def expected_scores(vectors, queries, candidates) -> dict[str, np.ndarray]:
    exact, signs = queries.astype(float), by_signs(vectors, queries)
    int8 = exact @ read_back(vectors).T / np.linalg.norm(read_back(vectors), axis=1)
    plus_minus = np.where(vectors > 0, 1.0, -1.0)
    return {
        "float32": exact @ vectors.astype(float).T,
        "float16": exact @ units(vectors.astype(np.float16).astype(float)).T,
        "int8": int8,
        "binary": signs,
        "binary_rescored": rescored(signs, exact @ plus_minus.T, candidates),
        "binary_int8": rescored(signs, int8, candidates),
        "first_64": units(exact[:, :64]).astype(float) @ units(vectors[:, :64]).T,
    }


def test_every_way_finds_what_numpy_finds(vectors, queries, monkeypatch):
    monkeypatch.setattr(storage, "CANDIDATES", 30)
    gains = {f"q{query:02}": {f"d{query:04}": 1, f"d{query + 1:04}": 2} for query in range(QUERIES)}
    costs = storage_costs(InMemory(vectors), queries, gains, "cosine", True)
    scores = expected_scores(vectors, queries, 30)
    assert list(costs) == list(scores)
    best = first(scores["float32"])
    relevance = np.zeros((QUERIES, ROWS))
    for query in range(QUERIES):
        relevance[query, query], relevance[query, query + 1] = 1, 2
    for name, of in scores.items():
        shares = [len(set(a) & set(b)) / 10 for a, b in zip(first(of), best, strict=True)]
        assert costs[name].recall == pytest.approx(np.mean(shares), abs=1e-12), name
        # Scikit-learn takes the mean over equal scores; here the smaller number comes first.
        strict = np.where(np.isinf(of), -1e9, of) - 1e-9 * np.arange(ROWS)
        found = costs[name].measured.means["ndcg@10"]
        assert found == pytest.approx(ndcg_score(relevance, strict, k=10), abs=1e-9), name
    recalls = {name: cost.recall for name, cost in costs.items()}
    assert recalls["float32"] == 1
    assert recalls["float16"] > recalls["int8"] - 0.01 > recalls["binary_int8"] - 0.02
    assert recalls["binary_int8"] > recalls["binary_rescored"] > recalls["binary"]
    sizes = {name: cost.bytes_per_row for name, cost in costs.items()}
    assert sizes == {
        "float32": 384, "float16": 192, "int8": 96, "binary": 12, "binary_rescored": 12,
        "binary_int8": 108, "first_64": 256,
    }  # fmt: skip
    assert costs["int8"].to_dict()["bytes"] == 96 * ROWS


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_other_metrics_and_no_judgments(vectors, metric):
    longer = vectors * np.linspace(1, 3, ROWS)[:, None].astype(np.float32)
    queries, excluded = sampled_queries(InMemory(longer), 20)
    np.testing.assert_array_equal(queries, longer[excluded])
    costs = storage_costs(InMemory(longer), queries, {}, metric, False, excluded)
    exact, rows = queries.astype(float), read_back(longer)
    if metric == "dot":
        pairs = [exact @ one.T for one in (longer.astype(float), rows)]
    else:
        pairs = [
            -np.linalg.norm(exact[:, None] - one[None], axis=2)
            for one in (longer.astype(float), rows)
        ]
    for scores in pairs:
        scores[np.arange(20), excluded] = -np.inf
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(*map(first, reversed(pairs)), strict=True)]
    assert costs["int8"].recall == pytest.approx(np.mean(shares), abs=1e-12)
    assert costs["float32"].recall == 1
    assert "ndcg@10" not in costs["int8"].to_dict()


def test_queries_are_the_same_whatever_the_order_of_rows(vectors):
    one, _ = sampled_queries(InMemory(vectors), 20)
    again, _ = sampled_queries(InMemory(vectors), 20)
    np.testing.assert_array_equal(one, again)
    everything, numbers = sampled_queries(InMemory(vectors[:7]), 20)
    assert numbers.tolist() == list(range(7))
    np.testing.assert_array_equal(everything, vectors[:7])


def test_what_float16_cannot_hold_is_not_compared(vectors, queries):
    costs = storage_costs(InMemory(1e6 * vectors), queries, {}, "cosine", False)
    assert "float16" not in costs
    assert costs["float32"].recall == 1
    assert costs["int8"].recall > 0.9


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
def test_zeros_few_rows_and_few_dimensions(vectors, metric):
    few = vectors[:6, :5].copy()
    few[2] = 0
    costs = storage_costs(InMemory(few), few[:4], {}, metric, False)
    # All six are among the ten nearest, however they are stored, and nothing is left to cut.
    assert {cost.recall for cost in costs.values()} == {1}
    assert [name for name in costs if name.startswith("first")] == []
    assert costs["binary"].bytes_per_row == 1
    gains = {f"q{query}": {"d0002": 1} for query in range(4)}
    for name, cost in storage_costs(InMemory(few), few[:4], gains, metric, True).items():
        assert np.isfinite(cost.measured.means["ndcg@10"]), name
