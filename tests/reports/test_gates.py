"""Gates by hand: which figure is meant, what it is held against, and what is said of it."""

import json
import math

import pytest
from pages import Page

from embedkit.config import Gate, JobConfig
from embedkit.errors import ConfigError
from embedkit.reports.gates import SHORT_NAMES, check_gate
from embedkit.reports.render import render_html, with_verdict
from embedkit.reports.report import report_json
from embedkit.reports.sections.evaluation import with_evaluation
from embedkit.reports.verdict import failed_gates, judged

REPORT = {
    "rejects": {"share": 0.004, "total": 4, "reasons": [{"reason": "empty_text", "count": 3}]},
    "truncation": {"row_share": 0.31},
    "counts": {"reconciled": True, "rows": 996, "lines": None},
    "norms": {"quantiles": {"p50": 1.0}, "lost": math.nan, "far": math.inf},
    "sources": [{"source": "a.b.jsonl", "share": 0.9}],
    "evaluation": {"retrieval": {"ndcg@10": 0.3955}},
    "near_duplicates": {"share": None, "why": "faiss is missing"},
    "findings": [{"level": "warning", "text": "31 % were cut. Look."}],
}


def check(expression, report=REPORT):
    return check_gate(Gate.parse(expression), report)


@pytest.mark.parametrize(
    ("expression", "figure"),
    [
        ("rejects.share>1", 0.004),
        ("truncated_share > 1", 0.31),
        ("truncation.row_share >1e0", 0.31),
        ("evaluation.retrieval.ndcg@10<-1", 0.3955),
        ("norms.quantiles.p50>2", 1.0),
        ("rejects.reasons.0.count>9", 3),
        ("rejects.reasons.empty_text.count>9", 3),
        # Names may hold dots themselves.
        ("sources.a.b.jsonl.share>1", 0.9),
    ],
)
def test_a_figure_is_found_by_its_path_or_short_name(expression, figure):
    found = check(expression)
    assert (found.passed, found.figure, found.by) == (True, figure, None)


def test_an_entry_with_the_name_of_a_figure_does_not_hide_it():
    report = {**REPORT, "map": {"rows": 3, "method": "pca"}, "evaluation": {"map": 0.4}}
    assert check("map<0.3", report).figure == 0.4
    assert check("map.rows<2", report).figure == 3
    assert "no such figure" in check("map<0.3", {**report, "evaluation": {}}).why


@pytest.mark.parametrize("operator", ["<", "<=", ">", ">=", "==", "!="])
@pytest.mark.parametrize("limit", [0.3, 0.31, 0.32])
def test_it_fails_where_python_says_that_the_condition_holds(operator, limit):
    found = check(f"truncation.row_share{operator}{limit}")
    assert found.passed is not eval(f"0.31 {operator} {limit}")
    assert found.by == (None if found.passed else abs(0.31 - limit))


def test_a_failed_gate_says_by_how_much():
    found = check("truncated_share>0.2")
    assert found.by == pytest.approx(0.11)
    assert found.why == "the figure is 0.31, 0.11 above 0.2"
    assert check("evaluation.retrieval.ndcg@10<0.4").why == "the figure is 0.3955, 0.0045 below 0.4"
    assert check("rejects.total>=4").why == "the figure is 4"
    assert check("counts.rows<1000").why == "the figure is 996, 4 below 1000"


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("rejects.shares>0.2", "has no such figure; it has rejects.share"),
        ("share>0.2", "has no such figure; it has rejects.share"),
        ("truncatedshare>0.2", "has no such figure; it has truncated_share"),
        ("zzz>1", "has no such figure; give the path of a number in report.json"),
        ("near_duplicate_share>0.2", "has null in the place of the figure: faiss is missing"),
        ("near_duplicates.share<0.2", "has null in the place of the figure: faiss is missing"),
        ("norms.lost>1", "has no number, but NaN in the place"),
        ("norms.lost<1", "has no number, but NaN in the place"),
        ("norms.far>1", "has no number, but Infinity in the place"),
        ("gates.0.limit>0", "has no such figure"),
        ("counts.lines>1", "has null in the place of the figure"),
        ("counts.reconciled>1", "has no number, but true in the place"),
        ("rejects>1", "has no number, but {"),
        ("rejects.reasons.7.count>1", "has no such figure"),
        ("rejects.share.total>1", "has no such figure"),
    ],
)
def test_a_gate_without_a_figure_fails_and_says_so(expression, why):
    found = check(expression)
    assert (found.passed, found.figure, found.by) == (False, None, None)
    assert why in found.why
    optional = check(expression.replace(">", "?>").replace("<", "?<"))
    assert optional.passed
    assert why in optional.why


def test_an_optional_figure_that_is_there_counts():
    assert not check("truncated_share?>0.2").passed


def test_short_names_are_of_paths_that_reports_have(make_report, usual_blocks):
    report = make_report(usual_blocks, {"unknown": "[UNK]"}, near="faiss is missing")
    missing = {name for name in SHORT_NAMES if check(f"{name}!=0", report).figure is None}
    asked = {name for name, path in SHORT_NAMES.items() if path.startswith("evaluation.")}
    assert missing == {"near_duplicate_share", *asked}
    worth = with_evaluation(report, {"ndcg@10": 0.5, "recall@100": 0.5, "mrr@10": 0.5, "map": 0.5,
                                     "spearman": 0.5})  # fmt: skip
    assert {check(f"{name}!=0", worth).figure for name in asked} == {0.5}
    assert check("near_duplicate_share>0", report).why.endswith("figure: faiss is missing")


@pytest.mark.parametrize(
    "expression",
    ["", "truncated_share", "truncated_share>", ">0.2", "a>b", "a=>1", "a>nan", "a>inf", "a..b>1",
     "a>1>2", "a b>1", "a>20%", ".a>1"],
)  # fmt: skip
def test_what_is_no_gate_is_refused_before_anything_runs(expression):
    from embedkit.cli.options import read_job

    settings = {"model": "m", "output": "o", "fail_on": [expression]}
    with pytest.raises(ConfigError) as raised:
        read_job(["a.jsonl"], settings)
    said = str(raised.value)
    assert len(said.splitlines()) == 1
    assert said.startswith("the command line: fail_on = ")
    assert "such as 'truncated_share>0.2'" in said


def test_a_job_file_may_have_one_gate_or_several(tmp_path):
    from embedkit.cli.options import read_job

    file = tmp_path / "job.yaml"
    for value in ("rejects.share>0.1", "[ 'rejects.share > 0.1', 'rejects.share>0.10' ]"):
        file.write_text(f"inputs: a.jsonl\nmodel: m\noutput: o\nfail_on: {value}\n")
        assert read_job([str(file)], {}).gates == (Gate("rejects.share", ">", 0.1),)
    assert JobConfig(inputs=("a",), model="m", output="o").gates == ()


# --- the verdict ---


def verdict(findings=(), gates=(), loss=None):
    report = {**REPORT, "findings": [{"level": one[0], "text": one[1]} for one in findings]}
    return judged(report, tuple(map(Gate.parse, gates)), loss)["verdict"]


def test_a_sound_version_may_go_live():
    assert verdict() == {
        "may_go_live": True,
        "level": "note",
        "sentence": "May go live: every record is accounted for, and nothing found amiss.",
        "loss": None,
        "errors": 0,
        "warnings": 0,
    }
    assert verdict([("note", "Narrow.")], ["errors>0"])["sentence"].endswith(
        "; the one gate passed."
    )


def test_warnings_are_a_reserve_and_errors_a_refusal():
    warned = verdict([("warning", "31 % were cut. Look."), ("warning", "Copies.")], ["errors>0"])
    assert warned["may_go_live"]
    assert warned["sentence"] == (
        "May go live, but: 31 % were cut, and 1 more warning; the one gate passed."
    )
    wrong = verdict([("error", "2 vectors hold a NaN. Mend."), ("warning", "Copies.")])
    assert (wrong["may_go_live"], wrong["errors"], wrong["warnings"]) == (False, 1, 1)
    assert wrong["sentence"] == (
        "Should not go live, though no gate keeps it back: 2 vectors hold a NaN."
    )


def test_failed_gates_and_losses_come_first():
    said = verdict(
        [("error", "2 vectors hold a NaN.")],
        ["truncated_share>0.2", "warnings>0", "errors>0"],
        "9 of 10 documents were rejected",
    )
    assert said["level"] == "error"
    assert said["sentence"] == (
        "May not go live: gates truncated_share>0.2: the figure is 0.31, 0.11 above 0.2; "
        "errors>0: the figure is 1, 1 above 0; 9 of 10 documents were rejected; 2 vectors hold a "
        "NaN."
    )


def test_judged_again_it_is_the_same_and_by_other_gates_another_one(make_report, usual_blocks):
    gates = (Gate.parse("warnings<1"), Gate.parse("counts.rows<9"), Gate.parse("gates.0.by?>9"))
    report = judged(make_report(usual_blocks), gates)
    again = judged(json.loads(report_json(report)), gates)
    assert report_json(again) == report_json(report)
    assert failed_gates(report["gates"]) == ""
    other = judged(report, (Gate.parse("counts.rows>9"),))
    assert failed_gates(other["gates"]) == "gate counts.rows>9: the figure is 600, 591 above 9"
    assert judged(other, gates) == report


def test_the_page_begins_with_it_and_can_be_told_another(make_report, usual_blocks):
    report = make_report(usual_blocks)
    failed = judged(report, (Gate.parse("counts.rows>9"), Gate.parse("nothing<1")))
    before, after = render_html(report), render_html(failed)
    body = after.partition("</header>")[2].lstrip().removeprefix("<!-- verdict -->").lstrip()
    assert body.startswith('<p class="verdict bad">✗ May not go live: gates counts.rows&gt;9: ')
    assert "failed: the report has no such figure" in after
    assert with_verdict(before, failed) == after
    assert with_verdict(after, report) == before
    old = before.replace("<!-- verdict -->", "")
    assert with_verdict(old, failed) == old


def test_what_a_gate_names_is_only_text(make_report, usual_blocks):
    hostile = Gate("</td><script>alert(1)</script><!--/verdict-->", ">", 1.0)
    page = render_html(judged(make_report(usual_blocks), (hostile,)))
    assert Page(page).asks_for_nothing
    assert page.count("<!-- /verdict -->") == 1
