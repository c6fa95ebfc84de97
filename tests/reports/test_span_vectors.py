"""The report of rows that have a list of vectors each."""

import numpy as np
import pytest
from reporting import make_report
from span_blocks import OF_WORDS, TEXTS, span_block

from embedkit.reports.render import render_html


@pytest.fixture(scope="module")
def blocks():
    return [span_block(), span_block(["one more cat", "cats"], seq=1)]


@pytest.fixture(scope="module")
def report(blocks):
    return make_report(blocks, dataset=OF_WORDS)


@pytest.fixture(scope="module")
def vectors(blocks):
    return np.concatenate([block.vectors.stacked for block in blocks]).astype(np.float64)


def test_vectors_are_counted_and_measured_one_by_one(report, vectors):
    norms = np.linalg.norm(vectors, axis=1)
    said = report["norms"]
    assert report["vectors"] == {"total": len(vectors), "of": "word"}
    assert said["mean"] == pytest.approx(norms.mean())
    assert (said["low"], said["high"]) == (pytest.approx(norms.min()), pytest.approx(norms.max()))
    assert report["similarity"]["mean_cosine"] == pytest.approx(mean_cosine(vectors))


def mean_cosine(vectors):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    return cosines[np.triu_indices(len(units), 1)].mean()


def test_rows_are_compared_as_the_mean_of_their_own(report, blocks):
    similarity = report["similarity"]
    # The text without a word has no direction.
    assert (similarity["sampled"], similarity["unusable"]) == (len(TEXTS) + 2, 1)
    means = {
        row_id: block.vectors.of_row(row).astype(np.float64).mean(axis=0)
        for block in blocks
        for row, row_id in enumerate(block.rows.column("id").to_pylist())
        if len(block.vectors.of_row(row))
    }
    for pair in similarity["closest"]:
        one, two = means[pair["left"]["id"]], means[pair["right"]["id"]]
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        assert pair["cosine"] == pytest.approx(cosine, abs=2e-6)


def test_the_page_says_what_is_compared(report, vectors):
    page = render_html(report)
    assert f"There are {len(vectors)} vectors, one for each word." in page
    assert "The vectors are of words; for a look at whole texts, a row is taken here as" in page
    assert "Over all pairs of words the mean cosine is" in page


def test_vectors_that_are_no_good_are_counted_among_all_vectors(blocks):
    block = span_block()
    vectors = block.vectors.stacked.copy()
    vectors[3] = 0
    vectors[5, 1] = np.nan
    spoiled = type(block.vectors)(vectors.reshape(-1), 8, block.vectors.offsets)
    place = block.rows.schema.get_field_index("embeddings")
    rows = block.rows.set_column(place, block.rows.schema.field(place), spoiled.to_arrow())
    findings = make_report([block.with_rows(rows)], dataset=OF_WORDS)["findings"]
    told = "\n".join(one["text"] for one in findings)
    assert "1 vector of 12 hold a NaN or an infinity" in told
    assert "1 vector of 12 are zero" in told
