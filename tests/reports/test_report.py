import json

import numpy as np
import pytest

from embedkit.reports.report import report_json


def texts_of(findings, level=None):
    return [found["text"] for found in findings if level in (None, found["level"])]


def test_a_usual_report_adds_up(make_report, usual_blocks):
    report = make_report(usual_blocks)
    lengths = np.concatenate([block.rows.column("n_tokens").to_numpy() for block in usual_blocks])
    assert report["counts"]["documents"] == 609
    assert (report["counts"]["embedded"], report["counts"]["rejected"]) == (600, 9)
    assert report["counts"]["reconciled"]
    assert [group["reason"] for group in report["rejects"]["reasons"]] == [
        "empty_text",
        "broken_json",
    ]
    assert len(report["rejects"]["reasons"][0]["examples"]) == 5
    assert report["rejects"]["reasons"][1]["examples"][0]["doc_id"] == "id 9"
    assert report["truncation"]["rows"] == (lengths > 256).sum()
    lost = np.maximum(lengths - 256, 0).sum()
    assert report["truncation"]["tokens_lost"] == lost
    assert report["truncation"]["token_share"] == lost / lengths.sum()
    assert report["tokens"]["quantiles"]["p95"] == np.quantile(lengths, 0.95, method="inverted_cdf")
    assert (report["duplicates"]["rows"], report["duplicates"]["texts"]) == (20, 20)
    assert report["similarity"]["compared"] + report["similarity"]["copies"] == 512


def test_bars_hold_every_row_once(make_report, usual_blocks):
    report = make_report(usual_blocks)
    bars = report["tokens"]["bars"]
    assert sum(bars["counts"]) == report["counts"]["rows"]
    assert sum(bars["truncated"]) == report["truncation"]["rows"]
    near = report["similarity"]["nearest"]["counts"]
    assert sum(near) == report["similarity"]["compared"]


@pytest.mark.parametrize(
    "lengths", [[2], [3] * 9, [1, 5000], range(2, 42), range(2, 300), [16, 17, 9_999_999]]
)
def test_bars_hold_lengths_of_any_spread(make_report, make_block, lengths):
    lengths = list(lengths)
    report = make_report([make_block([f"t{n}" for n in range(len(lengths))], n_tokens=lengths)])
    bars = report["tokens"]["bars"]
    assert sum(bars["counts"]) == len(lengths)
    assert len(bars["counts"]) <= 100
    assert bars["edges"] == sorted(set(bars["edges"]))
    assert sum(bars["truncated"]) == sum(length > 256 for length in lengths)


def test_norm_bars_hold_every_vector_once(make_report, make_block):
    norms = np.random.default_rng(4).uniform(3, 11, 500).astype(np.float32)
    block = make_block([f"t{n}" for n in range(500)], np.outer(norms, [0.6, 0.8]).astype("f4"))
    section = make_report([block], {"normalized": False})["norms"]
    assert sum(section["bars"]["counts"]) == 500
    assert len(section["bars"]["counts"]) <= 40
    exact, _ = np.histogram(np.linalg.norm(block.vectors.matrix, axis=1), section["bars"]["edges"])
    assert exact.tolist() == section["bars"]["counts"]
    assert np.ptp(np.diff(section["bars"]["edges"])) == 0


def test_equal_norms_need_no_bars(make_report, usual_blocks):
    assert make_report(usual_blocks)["norms"]["bars"] is None


@pytest.mark.parametrize("name", ["documents", "rows", "rejects"])
def test_a_record_too_few_is_an_error(make_report, usual_blocks, name):
    right = make_report(usual_blocks)["counts"]
    amount = right[{"rejects": "rejected"}.get(name, name)] + 1
    report = make_report(usual_blocks, accounts={name: amount})
    assert not report["counts"]["reconciled"]
    assert "do not add up" in texts_of(report["findings"], "error")[0]
    assert report["findings"][0]["level"] == "error"


def test_a_document_without_row_or_reject_is_an_error(make_report, make_block):
    from dataclasses import replace

    block = make_block(["a", "b"])
    report = make_report([replace(block, documents=3)])
    wrong = [check["name"] for check in report["counts"]["checks"] if not check["ok"]]
    assert wrong == ["documents read = embedded + rejected"]


def test_all_but_the_run_is_the_same_twice(make_report, usual_blocks):
    one = make_report(usual_blocks)
    two = make_report(usual_blocks, run={"created": "later", "encode_seconds": 1.0})
    assert one.pop("run") != two.pop("run")
    assert report_json(one) == report_json(two)
    assert json.loads(report_json(one)) == one


def test_truncation_is_warned_of_in_words(make_report, make_block):
    block = make_block([f"t{n}" for n in range(100)], n_tokens=[356] * 17 + [100] * 83)
    found = texts_of(make_report([block])["findings"], "warning")
    assert found[0].startswith("17 % of rows were longer than the model's 256 tokens")
    assert "12 % of all tokens were not seen" in found[0]


def test_clean_data_needs_no_warning(make_report, make_block):
    report = make_report([make_block([f"t{n}" for n in range(100)])])
    assert report["findings"] == []
    assert report["run"]["findings"] == []


def test_vectors_off_their_norm_are_an_error(make_report, make_block):
    block = make_block(["a", "b"], np.array([[1, 0], [0.99, 0]], np.float32))
    errors = texts_of(make_report([block])["findings"], "error")
    assert "off 1 by 0.01" in errors[0]
    assert not texts_of(make_report([block], {"normalized": False})["findings"], "error")


def test_broken_vectors_are_told(make_report, make_block):
    vectors = np.eye(4, dtype=np.float32)
    vectors[0], vectors[1] = np.nan, 0
    found = make_report([make_block(list("abcd"), vectors)], {"normalized": False})["findings"]
    assert "1 vector of 4" in texts_of(found, "error")[0]
    assert "1 vector of 4" in texts_of(found, "warning")[0]


def test_near_copies_and_narrow_cones_are_told(make_report, make_block):
    vectors = np.ones((50, 8), np.float32) + np.random.default_rng(0).normal(0, 0.01, (50, 8))
    block = make_block([f"t{n}" for n in range(50)], vectors.astype(np.float32))
    found = make_report([block], {"normalized": False})["findings"]
    assert any("near copy" in text for text in texts_of(found, "warning"))
    assert any("narrow cone" in text for text in texts_of(found, "note"))


def test_an_idle_encoder_and_reused_rows_are_told(make_report, usual_blocks):
    run = {"encoder_busy_share": 0.5, "rows_resumed": 12}
    found = texts_of(make_report(usual_blocks, run=run)["run"]["findings"])
    assert "50 %" in found[0]
    assert "12 rows" in found[1]


def test_a_report_of_nothing(make_report):
    report = make_report([])
    assert report["counts"]["reconciled"]
    assert texts_of(report["findings"]) == ["The inputs hold no document."]
    json.loads(report_json(report))


def test_a_repeated_text_that_is_not_stored_is_taken_from_the_sample(make_report, make_block):
    block = make_block(["again", "again", "b"])
    bare = block.with_rows(block.rows)
    report = make_report([bare])
    assert report["duplicates"]["top"][0]["text"] == "again"
