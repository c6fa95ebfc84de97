"""The scores of pairs as a report tells them, held against numpy."""

import json

import numpy as np
import pyarrow as pa
import pytest
from blocks import make_block

from embedkit.reports.bars import score_bars
from embedkit.reports.render import render_html
from embedkit.reports.sections.scores import LabelScores, Scores
from embedkit.reports.statistics import Statistics
from embedkit.vectors import Vectors


def block_of(scores, seq=0):
    """A block with such scores, shape (rows,) or (rows, labels)."""
    block = make_block(seq=seq, rows=len(scores), normalize=False)
    scores = scores.astype(np.float32)
    column = pa.array(scores) if scores.ndim == 1 else Vectors.from_matrix(scores).to_arrow()
    name = "score" if scores.ndim == 1 else "scores"
    place = block.rows.schema.get_field_index("embedding")
    field = pa.field(name, column.type, nullable=False)
    return block.with_rows(block.rows.set_column(place, field, column))


@pytest.mark.parametrize("labels", [1, 3])
def test_of_several_blocks_what_is_true_of_all_their_scores(make_report, labels):
    random = np.random.default_rng(3)
    whole = random.normal(0.5, 3, (400, labels)).squeeze()
    blocks = [block_of(part, seq) for seq, part in enumerate(np.split(whole, [150, 151]))]
    column = "score" if labels == 1 else "scores"
    report = make_report(blocks, {"column": column, "labels": "a, b, c"[: 3 * labels - 2]})
    assert {"scores"} <= set(report["sections"])
    assert not {"vectors", "similarity"} & set(report["sections"])
    for number, one in enumerate(report["scores"]):
        values = whole.reshape(400, labels)[:, number].astype(np.float32).astype(float)
        assert (one["label"], one["count"]) == ("abc"[number], 400)
        assert one["mean"] == pytest.approx(values.mean(), abs=1e-9)
        assert one["deviation"] == pytest.approx(values.std(), abs=1e-9)
        assert (one["low"], one["high"]) == (values.min(), values.max())
        for name, part in (("p1", 0.01), ("p50", 0.5), ("p99", 0.99)):
            wanted = np.quantile(values, part, method="inverted_cdf")
            assert one["quantiles"][name] == pytest.approx(wanted, rel=2e-3)
        counts, _ = np.histogram(values, bins=one["bars"]["edges"])
        assert sum(one["bars"]["counts"]) == 400
        assert np.abs(counts - one["bars"]["counts"]).max() <= 2
        assert 15 <= len(one["bars"]["counts"]) <= 42
    page = render_html(json.loads(json.dumps(report)))
    assert page.count('aria-label="Histogram of scores, from -') == labels


def test_adding_is_the_same_however_blocks_are_grouped():
    random = np.random.default_rng(4)
    one, two, three = (Statistics.of(block_of(random.normal(size=9)), 32) for _ in range(3))
    left, right = (one + two) + three, one + (two + three)
    assert left.to_dict() == right.to_dict()
    assert Statistics.from_dict(json.loads(json.dumps(left.to_dict()))).to_dict() == left.to_dict()
    assert (Scores() + Scores()).labels == ()


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        ([0.25] * 4, "All 4 scores are 0.25: the model tells no pair from another."),
        ([1, 1, 1, 0.5], "75 % of scores are 0 or 1 to the last digit, so these pairs have no or"),
        ([0.1, 0.2, 0.3, 0.4], None),
    ],
)
def test_what_needs_a_reader_s_eye(make_report, scores, text):
    report = make_report([block_of(np.array(scores))], {"column": "score", "labels": "x"})
    found = [one["text"] for one in report["findings"] if "scores" in one["text"]]
    assert [one.startswith(text) for one in found] == [True] * (text is not None)


def test_bars_of_any_range():
    for low, high in [(0.0, 1e-7), (-1e6, 1e6), (5.0, 5.001), (-0.5, -0.4999), (0.0, 1.0)]:
        values = np.linspace(low, high, 50)
        bars = score_bars(values, np.ones(50, np.int64), low, high)
        assert sum(bars["counts"]) == 50 and len(bars["counts"]) <= 42
        assert bars["edges"][0] <= low and high <= bars["edges"][-1]
    assert score_bars(np.array([0.3]), np.array([7]), 0.3, 0.3) is None


def test_no_rows_and_no_numbers(make_report):
    empty = block_of(np.empty(0))
    report = make_report([empty], {"column": "score", "labels": "x"})
    assert report["scores"] == []
    assert "There are no scores." in render_html(json.loads(json.dumps(report)))
    assert LabelScores.of(np.array([np.nan, np.inf], np.float32)).moments.count == 0
