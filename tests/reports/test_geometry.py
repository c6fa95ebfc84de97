"""How rows lie to each other, against scikit-learn, SciPy and sums over all pairs."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import skew
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors

from embedkit.reports import nearest as nearest_module
from embedkit.reports.nearest import Neighbours, nearest
from embedkit.reports.render import render_html
from embedkit.reports.sections.geometry import (
    equal_vectors,
    hubness,
    random_pairs,
    two_nn,
    uniformity,
)

PLAIN = {"normalized": False}


def units_of(rows=700, width=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, width)) + 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "at_once", "k"), [(700, 64, 10), (65, 64, 10), (12, 5, 10), (2, 4, 1)]
)
def test_neighbours_are_those_of_scikit_learn(monkeypatch, rows, at_once, k):
    monkeypatch.setattr(nearest_module, "_ROWS_AT_ONCE", at_once)
    units = units_of(rows)
    found = nearest(units, k)
    reference = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(units)
    distances, expected = reference.kneighbors(units)
    assert np.array_equal(found.rows, expected[:, 1:])
    assert np.allclose(found.cosines, 1 - distances[:, 1:] ** 2 / 2, atol=1e-5)


def test_of_equal_rows_the_first_are_neighbours(monkeypatch):
    monkeypatch.setattr(nearest_module, "_ROWS_AT_ONCE", 4)
    found = nearest(np.tile(np.float32([[0.6, 0.8]]), (11, 1)), 3)
    assert np.allclose(found.cosines, 1)
    assert all(row not in found.rows[row] for row in range(11))


def test_hubness_is_the_skewness_of_scipy():
    found = nearest(units_of(), 10)
    counts = np.bincount(found.rows.ravel(), minlength=700)
    hubs = hubness(found)
    assert hubs.skewness == pytest.approx(skew(counts), abs=1e-6)
    assert hubs.never == (counts == 0).mean()
    assert (hubs.k, hubs.most) == (10, counts.max())


def test_uniformity_is_that_of_its_paper():
    units = units_of(300)
    expected = np.log(np.exp(-2 * pdist(units.astype(np.float64)) ** 2).mean())
    assert uniformity(random_pairs(units)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_dimension_of_a_known_surface_is_found(dimension):
    random = np.random.default_rng(dimension)
    # Small, so that the sphere that it is put on is flat there.
    flat = random.uniform(-0.05, 0.05, size=(1500, dimension)) @ random.normal(size=(dimension, 24))
    vectors = flat + np.ones(24)
    units = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert two_nn(units, nearest(units, 2)) == pytest.approx(dimension, rel=0.12)


def test_an_arc_has_one_dimension():
    angles = np.random.default_rng(0).uniform(0, 3, 500)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert two_nn(arc, nearest(arc, 2)) == pytest.approx(1, rel=0.15)


def test_two_nn_is_the_line_that_scikit_learn_fits():
    units = units_of(500)
    distances, _ = NearestNeighbors(n_neighbors=3).fit(units).kneighbors(units.astype(np.float64))
    ratios = np.sort(distances[:, 2] / distances[:, 1])
    share = np.arange(1, 501) / 500
    line = LinearRegression(fit_intercept=False)
    line.fit(np.log(ratios[:450, None]), -np.log(1 - share[:450]))
    assert two_nn(units, nearest(units, 10)) == pytest.approx(line.coef_[0], rel=1e-3)


def test_vectors_that_float32_hardly_tells_apart_have_a_finite_dimension():
    random = np.random.default_rng(1)
    point = random.normal(size=16)
    near = point + random.normal(size=(400, 16)) * np.float32(1e-6)
    vectors = np.concatenate([near, near[:40] * (1 + 1e-7)])
    units = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    # Their cosines are all 1, so that any two others may be called the nearest: equal ones as well.
    others = np.stack([random.permutation(440), np.roll(np.arange(440), 400)], axis=1)
    found = Neighbours(np.ones((440, 2), "f4"), others.astype("i4"))
    with np.errstate(all="raise"):
        dimension = two_nn(units, found)
    assert dimension is None or 0 < dimension < np.inf
    swapped = Neighbours(found.cosines, others[:, ::-1].astype("i4"))
    assert two_nn(units, swapped) == dimension


def test_few_rows_or_equal_ones_have_no_dimension():
    assert two_nn(units_of(20), nearest(units_of(20), 2)) is None
    equal = np.tile(np.float32([[0.6, 0.8]]), (50, 1))
    assert two_nn(equal, nearest(equal, 2)) is None
    assert two_nn(equal, Neighbours(np.ones((50, 1), "f4"), np.zeros((50, 1), "i4"))) is None
    assert two_nn(equal, None) is None
    assert hubness(None) is None


def test_equal_vectors_are_found_bit_for_bit():
    vectors = np.array([[1, 2], [0.0, 1], [1, 2], [-0.0, 1], [1, 2], [3, 4]], np.float32)
    pairs, rows = equal_vectors(vectors)
    assert sorted(pairs) == [(0, 2), (0, 4), (1, 3)]
    assert rows == 5
    assert equal_vectors(vectors[:1]) == ([], 0)


@pytest.fixture(scope="module")
def report_of(make_report, make_block):
    def report(vectors, texts=None):
        texts = [f"t{n}" for n in range(len(vectors))] if texts is None else texts
        found = make_report([make_block(texts, vectors)], PLAIN)
        page = render_html(json.loads(json.dumps(found, allow_nan=False)))
        return found, page

    return report


def found_of(report, level):
    return [one["text"] for one in report["findings"] if one["level"] == level]


def test_a_report_compares_neighbours_with_random_pairs(report_of):
    units = units_of()
    found = report_of(units)[0]["geometry"]
    cosines = units.astype(np.float64) @ units.T
    pairs = cosines[np.triu_indices(700, 1)]
    np.fill_diagonal(cosines, -1)
    near = cosines.max(axis=1)
    floor = np.median(pairs)
    assert (found["sampled"], found["compared"], found["unusable"]) == (700, 700, 0)
    assert found["floor"]["p50"] == pytest.approx(floor, abs=2e-6)
    assert found["floor_mean"] == pytest.approx(pairs.mean(), abs=2e-6)
    assert found["nearest"]["p95"] == pytest.approx(np.quantile(near, 0.95), abs=2e-6)
    assert found["contrast"] == pytest.approx((np.median(near) - floor) / (1 - floor), abs=1e-5)
    assert found["isolated"] == pytest.approx((near <= np.quantile(pairs, 0.99)).mean(), abs=0.01)


def test_outliers_are_shown_with_their_texts(report_of):
    random = np.random.default_rng(1)
    vectors = np.concatenate([[[0, 0, -1]], random.normal([4, 0, 0], 0.3, (60, 3))]).astype("f4")
    report, page = report_of(vectors, ["the odd one out", *(f"t{n}" for n in range(60))])
    first = report["geometry"]["outliers"][0]
    assert first["text"] == "the odd one out"
    assert first["cosine"] == min(one["cosine"] for one in report["geometry"]["outliers"])
    assert "the odd one out" in page


def test_equal_vectors_of_different_texts_are_warned_of(report_of):
    vectors = units_of(50)
    vectors[10:13] = vectors[3]
    report, page = report_of(vectors)
    assert report["geometry"]["equal"] == 4
    told = {one["text"] for pair in report["geometry"]["equal_pairs"] for one in pair.values()}
    assert told == {"t3", "t10", "t11", "t12"}
    assert any("4 sampled rows (8.0 %) have exactly" in t for t in found_of(report, "warning"))
    assert "Equal vectors of different texts" in page
    same_text, _ = report_of(vectors, ["same"] * 50)
    assert same_text["geometry"]["equal"] == 0
    assert same_text["geometry"]["compared"] == 1


def test_vectors_that_tell_nothing_are_warned_of(report_of):
    wider = np.random.default_rng(0).normal(size=(1000, 2049)).astype(np.float32)
    report, _ = report_of(wider)
    assert any("hardly nearer than random" in text for text in found_of(report, "warning"))


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((1, 3), "f4"),
        np.ones((2, 3), "f4"),
        np.ones((40, 3), "f4"),
        np.zeros((4, 3), "f4"),
        np.full((2, 3), np.nan, "f4"),
        np.array([[1.0], [-1.0], [2.0]], "f4"),
        np.eye(4, dtype="f2"),
    ],
    ids=["one", "equal", "many equal", "zero", "nan", "line", "half"],
)
def test_few_and_strange_rows_have_a_report(report_of, vectors):
    report, _ = report_of(vectors)
    assert ("geometry" in report) is bool(np.isfinite(vectors).all())


@pytest.mark.soak
def test_a_whole_sample_takes_little_time_and_memory():
    import resource
    import time

    units = units_of(25_000, 384)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    hubness(found := nearest(units, 10))
    two_nn(units, found)
    uniformity(random_pairs(units))
    print(f"{time.process_time() - begun:.1f} CPU s")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10
