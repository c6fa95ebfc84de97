import json
import re
from html.parser import HTMLParser

import pytest

from embedkit.reports.render import render_html
from embedkit.reports.report import report_json


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def test_the_figures_are_on_the_page(make_report, usual_blocks):
    words = Page(render_html(make_report(usual_blocks))).words
    assert "Every record is accounted for: 609 documents read, 600 embedded into 600 rows" in words
    for shown in ("some/model", "v0123456789ab", "empty_text", "broken_json", "1,000", "97 %"):
        assert shown in words
    assert "8 documents, the first 5 shown" in words


def test_a_version_that_does_not_add_up_says_so_on_top(make_report, usual_blocks):
    page = render_html(make_report(usual_blocks, accounts={"rows": 1}))
    assert 'class="verdict bad"' in page
    assert "Every record is accounted for" not in page


def test_hostile_texts_stay_texts(make_report, hostile_blocks, hostile_dataset):
    run = {"created": hostile_dataset["model"]}
    html = render_html(make_report(hostile_blocks, hostile_dataset, run=run))
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "base", "link", "form"} & set(page.tags)
    assert page.tags.count("title") - html.count("<rect") <= 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name, value)
        assert name not in ("href", "src", "srcset", "action", "formaction", "xlink:href")
    assert page.tags.count("style") == 1
    assert "<script>alert(1)</script>" in page.words
    assert "{{ 7 * 7 }}" in page.words
    html.encode("utf-8")
    assert "\x00" not in html
    assert not re.search("[\ud800-\udfff]", html)


def test_nothing_is_fetched(make_report, usual_blocks):
    html = render_html(make_report(usual_blocks))
    assert (
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">" in html
    )
    assert not re.search(r"https?://|url\(|@import|<script|<link|\ssrc=|\shref=", html)


def test_long_texts_do_not_fill_the_page(make_report, hostile_blocks, hostile_dataset):
    html = render_html(make_report(hostile_blocks, hostile_dataset))
    assert len(html) < 200_000
    assert "W" * 1001 not in html


@pytest.mark.parametrize("exact", [True, False])
def test_a_report_read_back_renders_the_same(make_report, usual_blocks, exact):
    report = make_report(usual_blocks, exact=exact)
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
        "tokens_per_second": 0.0,
        "encode_seconds": 0.0,
        "encoder_busy_share": 0.0,
        "rows_reused": 600,
    }
    assert "\u2013" in render_html(make_report(usual_blocks, run=run))


def test_unnormalized_vectors_have_a_chart(make_report, make_block):
    import numpy as np

    vectors = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    block = make_block([f"t{n}" for n in range(90)], vectors)
    page = render_html(make_report([block], {"normalized": False}))
    assert page.count("<svg") == 3


def test_every_part_of_the_page_is_closed(make_report, usual_blocks):
    html = render_html(make_report(usual_blocks))
    for tag in ("main", "section", "div", "table", "tr", "dl", "figure", "svg", "p", "ul", "li"):
        assert html.count(f"<{tag}>") + html.count(f"<{tag} ") == html.count(f"</{tag}>"), tag
