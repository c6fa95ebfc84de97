import json
import re

import numpy as np
from pages import Page

from embedkit.formats.reused import ReusedRows
from embedkit.records import LineCounts, Reject
from embedkit.reports.render import render_html
from embedkit.reports.report import report_json
from embedkit.reports.statistics import Sidecar


def test_the_figures_are_on_the_page(make_report, usual_blocks):
    words = Page(render_html(make_report(usual_blocks))).words
    assert "Every record is accounted for: 609 documents read, 600 embedded into 600 rows" in words
    for shown in ("some/model", "v0123456789ab", "empty_text", "broken_json", "1,000", "97 %"):
        assert shown in words
    assert "8 documents, the first 5 shown" in words


def test_documents_of_files_without_lines_are_told_from_those_of_lines(make_report, usual_blocks):
    lines = LineCounts(lines=510, headers=1, blank=9, records=500)
    words = Page(render_html(make_report(usual_blocks, accounts={"lines": lines}))).words
    assert "510 lines in: 500 records, 1 header, 9 blank. 109 documents more from files" in words
    lines = LineCounts(lines=609, records=609)
    words = Page(render_html(make_report(usual_blocks, accounts={"lines": lines}))).words
    assert "609 lines in: 609 records" in words
    assert "from files that have no lines" not in words


def test_a_version_that_does_not_add_up_says_so_on_top(make_report, usual_blocks):
    page = render_html(make_report(usual_blocks, accounts={"rows": 1}))
    assert 'class="verdict bad"' in page
    assert "Every record is accounted for" not in page


def test_nothing_embedded_is_no_success(make_report, make_block):
    lost = tuple(Reject("a.jsonl", n, "missing_column", "no 'txet'") for n in range(20))
    report = make_report([make_block([], np.empty((0, 8), np.float32), rejects=lost)])
    html = render_html(report)
    assert 'class="verdict bad"' in html
    assert "✓ Every" not in html
    assert report["findings"][0]["level"] == "error"


def test_many_rejects_are_no_success_without_a_reserve(make_report, make_block):
    for count, verdict in ((1, "good"), (30, "warn")):
        lost = tuple(Reject("a.jsonl", n, "missing_column", "no 'txet'") for n in range(count))
        html = render_html(make_report([make_block([f"t {n}" for n in range(900)], rejects=lost)]))
        assert f'class="verdict {verdict}"' in html


def test_one_damaged_file_among_many_documents_is_no_success(make_report, make_block):
    lost = (Reject("a.jsonl", 900, "damaged_file", "broken off"),)
    html = render_html(make_report([make_block([f"t {n}" for n in range(900)], rejects=lost)]))
    assert 'class="verdict warn"' in html
    assert "but the rest of the damaged file is missing, unless a reject says that only" in html


def test_a_message_stands_once_for_all_records_that_it_is_about(make_report, make_block):
    lost = [
        Reject("a.jsonl", 90 * n, "missing_column", "no value in 'txet'", line=n) for n in range(4)
    ]
    lost.insert(2, Reject("b.jsonl", 7, "missing_column", "no value in 'title'"))
    words = Page(render_html(make_report([make_block(["a b"], rejects=tuple(lost))]))).words
    assert words.count("no value in 'txet'") == 1
    assert words.count("no value in 'title'") == 1
    assert all(f"a.jsonl , line {n}" in words for n in range(4))


def test_the_legend_names_only_what_is_drawn(make_report, make_block):
    words = Page(render_html(make_report([make_block(["short text"] * 3)]))).words
    assert "all seen whole" in words
    assert "whole truncated" not in words
    long = make_block(["short text", "long"], n_tokens=[3, 300])
    assert "seen whole truncated" in Page(render_html(make_report([long]))).words


def test_the_page_is_named_after_the_dataset_and_its_model(make_report, usual_blocks):
    path = "/mnt/models/nightly/releases/2026-11/all-MiniLM-L6-v2"
    page = Page(render_html(make_report(usual_blocks, {"model": path}, run={"title": "tickets"})))
    assert page.words.startswith("tickets · all-MiniLM-L6-v2 · embedding report")
    assert page.words.count(path) == 1


def test_a_report_without_texts_shows_where_they_stand(make_report, make_block):
    texts = [f"secret {n} secret" for n in range(40)]
    block = make_block([*texts, texts[0]])
    assert b"secret" not in Sidecar.of(block, 256).to_json()
    report = make_report([block.with_rows(block.rows.drop_columns(["text"]))])
    page = render_html(report)
    assert "secret" not in page
    words = Page(page).words
    assert "the report shows no texts; see the row" in words
    assert "the texts are not shown, as the version stores none" in words
    assert report["similarity"]["closest"][0]["left"]["id"] in words


def test_hostile_texts_stay_texts(make_report, hostile_blocks, hostile_dataset):
    run = {"created": hostile_dataset["model"]}
    html = render_html(make_report(hostile_blocks, hostile_dataset, run=run))
    page = Page(html)
    assert not {"img", "iframe", "object", "base", "link", "form", "svg"} & set(page.tags)
    assert page.asks_for_nothing
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name, value)
    assert page.tags.count("style") == 2
    assert page.tags.count("script") == len(page.scripts) + len(page.data) == 4
    assert "<script>alert(1)</script>" in page.words
    assert "{{ 7 * 7 }}" in page.words
    html.encode("utf-8")
    assert "\x00" not in html
    assert not re.search("[\ud800-\udfff]", html)


def test_nothing_is_fetched(make_report, usual_blocks):
    html = render_html(make_report(usual_blocks))
    assert Page(html).asks_for_nothing
    # What Bokeh would fetch, for formulas and geographic maps, nothing here asks it for.
    without_scripts = html.partition('<script type="application/json"')[0]
    assert not re.search(r"https?://|url\(|@import|<script|<link", without_scripts)
    assert "$$" not in html.rpartition("application/json")[2].partition("</script>")[0]


def test_a_page_is_the_same_bytes_whenever_it_is_made(make_report, usual_blocks):
    report = make_report(usual_blocks)
    first = render_html(report)
    render_html(make_report([]))
    assert render_html(report) == first


def test_a_page_that_draws_nothing_holds_no_script(make_report):
    page = Page(render_html(make_report([])))
    assert "script" not in page.tags
    assert page.policy.startswith("default-src 'none'; ")


def test_long_texts_do_not_fill_the_page(make_report, hostile_blocks, hostile_dataset):
    html = render_html(make_report(hostile_blocks, hostile_dataset))
    assert len(html.partition("<script")[0]) < 200_000
    assert "W" * 1001 not in html


def test_a_report_read_back_renders_the_same(make_report, usual_blocks):
    report = make_report(usual_blocks)
    assert render_html(json.loads(report_json(report))) == render_html(report)


def test_a_page_of_nothing(make_report):
    words = Page(render_html(make_report([]))).words
    assert "There are no rows." in words
    assert "not enough rows" in words


def test_a_page_of_one_row(make_report, make_block):
    words = Page(render_html(make_report([make_block(["only"])]))).words
    assert "1 document read, 1 embedded into 1 row, 0 rejected" in words


def test_a_run_that_encoded_nothing(make_report, usual_blocks):
    run = {
        "tokens_encoded": 0,
        "encode_seconds": 0.0,
        "encoder_busy_share": 0.0,
        "rows_resumed": 600,
    }
    assert "\u2013" in render_html(make_report(usual_blocks, run=run))


def test_rows_of_an_earlier_version(make_report, usual_blocks):
    sources = {
        "<script>alert(1)</script>.jsonl": (90, 10, 4, 3, 2),
        "b.jsonl": (500, 0, 0, 0, None),
    }
    reused = ReusedRows({"v<b>0": 590}, 600, 590, 12_345, 4, 3, None, sources)
    report = make_report(usual_blocks, run={"reused": reused})
    page = Page(render_html(report))
    assert page.asks_for_nothing
    assert "590 rows from v<b>0 , bit for bit Tokens saved 12,345 Rows encoded 10" in page.words
    assert "Rows added 4 Rows changed 3 Rows removed not known" in page.words
    assert "<script>alert(1)</script>.jsonl 90 10 4 3 2 b.jsonl 500 0 0 0 not known" in page.words
    assert [one["rows_removed"] for one in report["reuse"]["sources"]] == [2, None]
    part = ReusedRows({"v0": 100}, 120, 100)
    (said,) = (
        one["text"]
        for one in make_report(usual_blocks, run={"reused": part})["findings"]
        if "earlier version" in one["text"]
    )
    assert said.startswith("480 rows were committed by a run that compared nothing")


def test_unnormalized_vectors_have_a_chart(make_report, make_block):
    import numpy as np

    vectors = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    block = make_block([f"t{n}" for n in range(90)], vectors)
    page = render_html(make_report([block], {"normalized": False}))
    assert page.count('<div class="plot"') == 3


def test_every_part_of_the_page_is_closed(make_report, usual_blocks):
    html = render_html(make_report(usual_blocks)).partition("<script")[0]
    for tag in ("main", "section", "div", "table", "tr", "dl", "figure", "p", "ul", "li"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>"), tag
