"""What a report says of near duplicates."""

from dataclasses import replace

import pytest

from embedkit.reports.near.figures import NearDuplicates, NearGroup, NearRow
from embedkit.reports.render import render_html

HOSTILE = '<script>alert("x")</script>'
FOUND = NearDuplicates(
    parts_digest="0" * 32,
    asked="auto",
    threshold=0.953,
    floor=0.06,
    version_rows=600,
    groups=2,
    rows=60,
    removable=58,
    share=58 / 600,
    equal_texts=7,
    compared=590,
    unusable=3,
    recall=0.9,
    recall_pairs=100,
    recall_rows=256,
    exact=False,
    largest=(
        NearGroup(50, (NearRow(HOSTILE, "a.jsonl", 4, 5, HOSTILE), NearRow("b", "a.jsonl", 9, 10))),
        NearGroup(10, (NearRow("c", "b.txt", 7, None, None),)),
    ),
)


def findings_of(report):
    return [one["text"] for one in report["findings"] if "near duplicates" in one["text"]]


def test_the_figures_stand_in_the_report_and_on_the_page(make_report, usual_blocks):
    report = make_report(usual_blocks, near=FOUND)
    near = report["near_duplicates"]
    assert (near["measured"], near["why"]) == (True, None)
    named = ("threshold", "floor", "groups", "rows", "removable", "share", "recall", "exact")
    assert {name: near[name] for name in named} == {name: getattr(FOUND, name) for name in named}
    assert near["largest"][0]["size"] == 50
    assert near["largest"][0]["shown"][1] == {
        "id": "b",
        "source": "a.jsonl",
        "row_index": 9,
        "line": 10,
        "text": None,
        "place": "line 10",
    }
    page = render_html(report)
    assert "60 rows stand in 2 groups of near duplicates" in page
    assert "58 rows (9.7 %) could go" in page
    assert (
        "Of 100 pairs that a comparison of 256 rows with all others finds, 90 % were found" in page
    )
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_many_of_them_and_lost_ones_are_findings(make_report, usual_blocks):
    many, lost = findings_of(make_report(usual_blocks, near=FOUND))
    assert many.startswith("9.7 % of rows are near duplicates that could go")
    assert "report/near_duplicates.arrow" in many
    assert lost.startswith("10 % of 100 pairs of near duplicates")
    few = replace(FOUND, share=0.04, recall_pairs=20)
    assert findings_of(make_report(usual_blocks, near=few)) == []


@pytest.mark.parametrize("recall", [1.0, None])
def test_none_of_them_and_no_pair_to_measure_with(make_report, usual_blocks, recall):
    none = replace(
        FOUND,
        groups=0,
        rows=0,
        removable=0,
        share=0.0,
        recall=recall,
        exact=recall == 1,
        largest=(),
    )
    page = render_html(make_report(usual_blocks, near=none))
    assert "No two rows have a cosine of 0.953 or more" in page
    assert ("how many are lost is not known" in page) == (recall is None)


def test_without_texts_the_page_says_so_and_names_the_row(make_report, usual_blocks):
    bare = (NearGroup(50, (NearRow("the-id", "a.jsonl", 4, 5),)),)
    page = render_html(make_report(usual_blocks, near=replace(FOUND, largest=bare)))
    assert "the report shows no texts" in page
    assert "the-id" in page


def test_what_was_not_looked_for_says_why(make_report, usual_blocks):
    report = make_report(usual_blocks, near="faiss is <not> installed")
    near = report["near_duplicates"]
    assert (near["measured"], near["why"]) == (False, "faiss is <not> installed")
    assert {near[name] for name in ("share", "recall", "groups")} == {None}
    assert "They were not looked for: faiss is &lt;not&gt; installed." in render_html(report)


def test_a_report_that_knows_nothing_of_them_has_no_such_section(make_report, usual_blocks):
    assert "near_duplicates" not in make_report(usual_blocks)
