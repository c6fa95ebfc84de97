"""What a report says of dimensions, against NumPy, SciPy and scikit-learn."""

import json

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.decomposition import PCA

from embedkit.reports.render import render_html
from embedkit.reports.second_moments import SecondMoments
from embedkit.reports.sections.dimensions import effective_rank, spectrum_of

PLAIN = {"normalized": False}


def vectors_of(rows=2000, width=12, seed=0):
    random = np.random.default_rng(seed)
    return (random.normal(size=(rows, width)) * np.linspace(3, 0.2, width) + 0.4).astype("f4")


def units(vectors):
    rows = vectors.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def report_of(make_report, make_block):
    def report(vectors):
        block = make_block([f"t{n}" for n in range(len(vectors))], vectors)
        found = make_report([block], PLAIN)
        render_html(json.loads(json.dumps(found)))
        return found

    return report


def found_of(report, level):
    return [one["text"] for one in report["findings"] if one["level"] == level]


def test_explained_variance_is_that_of_scikit_learn(report_of):
    vectors = vectors_of()
    spectrum = report_of(vectors)["dimensions"]["spectrum"]
    pca = PCA().fit(units(vectors))
    ratios = pca.explained_variance_ratio_
    assert np.allclose(spectrum["explained"], ratios[:10], rtol=1e-4)
    assert spectrum["first_share"] == spectrum["explained"][0]
    assert spectrum["variance"] == pytest.approx(np.var(units(vectors), axis=0).sum(), rel=1e-5)
    for name, part in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert spectrum["components"][name] == (np.cumsum(ratios) < part).sum() + 1
    assert spectrum["effective_rank"] == pytest.approx(np.exp(entropy(ratios)), rel=1e-4)


def test_rankme_is_that_of_its_paper(report_of):
    vectors = vectors_of()
    shares = np.linalg.svd(units(vectors), compute_uv=False)
    shares = shares / shares.sum() + 1e-7
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert report_of(vectors)["dimensions"]["spectrum"]["rankme"] == pytest.approx(expected, 1e-4)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_weights_have_the_rank_of_their_number(rank):
    assert effective_rank(np.r_[np.full(rank, 0.7), np.zeros(4)]) == pytest.approx(rank)


def test_lengths_and_ranges_are_those_of_numpy(report_of):
    vectors = vectors_of()
    found = report_of(vectors)["dimensions"]
    assert found["total"] == 12
    assert (found["rows"], found["blocks"], found["of_blocks"]) == (2000, 1, 1)
    assert found["mean_length"] == pytest.approx(np.linalg.norm(units(vectors).mean(axis=0)), 1e-5)
    assert found["low"] == pytest.approx(vectors.min(), 1e-5)
    assert found["high"] == pytest.approx(vectors.max(), 1e-5)
    deviations = units(vectors).std(axis=0)
    assert [one["dimension"] for one in found["widest"]] == np.argsort(-deviations)[:10].tolist()
    assert found["widest"][0]["deviation"] == pytest.approx(deviations.max(), 1e-4)


def test_dead_dimensions_are_named(report_of):
    vectors = vectors_of()
    vectors[:, 3], vectors[:, 7] = 0, 0.25
    vectors[:, 5] = 1e-7 * vectors[:, 5]
    report = report_of(vectors)
    # Number 7 varies with the others' lengths once it is scaled: what is stored tells it.
    assert [one["dimension"] for one in report["dimensions"]["dead"]] == [3, 5, 7]
    said = "3 dimensions of 12 are the same in every row or all but so (number 3, 5, 7, counted"
    assert any(said in text for text in found_of(report, "warning"))


def test_a_few_dead_dimensions_are_worth_a_note_alone(report_of):
    """A sound model may have them: all-MiniLM-L6-v2 has three of 384."""
    vectors = np.tile(vectors_of(), 32)
    vectors[:, [100, 200, 300]] = 0
    report = report_of(vectors)
    assert report["dimensions"]["n_dead"] == 3
    assert any("3 dimensions of 384" in text for text in found_of(report, "note"))
    vectors[:, [101, 201]] = 0
    assert any("5 dimensions of 384" in text for text in found_of(report_of(vectors), "warning"))


def test_more_dead_dimensions_than_others_are_named(report_of):
    vectors = vectors_of()
    vectors[:, 2:] = 0
    report = report_of(vectors)
    assert [one["dimension"] for one in report["dimensions"]["dead"]] == [*range(2, 12)]
    assert any("10 dimensions of 12 are" in text for text in found_of(report, "warning"))


def test_vectors_that_all_point_one_way_are_an_error(report_of):
    report = report_of(np.outer(np.arange(1, 41), [1, 2, 3]).astype(np.float32))
    assert "All 40 vectors point the same way" in found_of(report, "error")[0]
    assert report["dimensions"]["n_dead"] == 0
    assert report["dimensions"]["mean_length"] == pytest.approx(1, abs=1e-5)
    assert report_of(np.tile(vectors_of(1), (40, 1)))["dimensions"]["n_dead"] == 0


def test_constant_vectors_are_counted(report_of):
    vectors = vectors_of(50)
    vectors[:3] = 0.5
    report = report_of(vectors)
    assert report["dimensions"]["constant_vectors"] == 3
    assert any("3 vectors have the same number" in text for text in found_of(report, "warning"))


def test_one_ruling_direction_is_noted(report_of):
    vectors = vectors_of(200)
    vectors[:, 0] *= 20
    assert any("lies along one direction" in text for text in found_of(report_of(vectors), "note"))


@pytest.mark.parametrize(
    "vectors",
    [
        np.ones((1, 3), "f4"),
        np.ones((2, 3), "f4"),
        np.zeros((4, 3), "f4"),
        np.full((2, 3), np.nan, "f4"),
        np.array([[1.0], [-1.0], [2.0]], "f4"),
        np.eye(3, 2500, dtype="f4"),
        np.eye(4, dtype="f2"),
    ],
    ids=["one", "equal", "zero", "nan", "line", "long", "half"],
)
def test_few_and_strange_rows_have_a_report(report_of, vectors):
    report = report_of(vectors)
    json.dumps(report, allow_nan=False)


def test_spectrum_of_nothing_is_none():
    assert spectrum_of(SecondMoments()) is None


def test_the_page_says_where_blocks_were_left_out(report_of):
    report = json.loads(json.dumps(report_of(vectors_of())))
    report["dimensions"] |= {"blocks": 2048, "of_blocks": 90_000}
    assert "in 2,048 of 90,000 blocks, chosen by hash" in render_html(report)
