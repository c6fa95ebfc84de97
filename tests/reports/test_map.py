"""What a report says of the map of its sample."""

import pytest

from embedkit.reports.map.table import DrawnMap, MapOrigin
from embedkit.reports.render import render_html

HOSTILE = "<b>v1</b>"


def test_a_map_is_told_of(make_report, usual_blocks):
    origin = MapOrigin("pca", "r" * 32, (0.25, 0.125))
    report = make_report(usual_blocks, drawn=DrawnMap(origin, 1200))
    assert report["map"] == {
        "measured": True, "why": None, "method": "pca", "rows": 1200, "seed": 1, "start": None,
        "moved": None, "explained": [0.25, 0.125], "file": "report/map.parquet",
    }  # fmt: skip
    page = render_html(report)
    assert "1,200 rows" in page
    assert "have 38% of the variance" in page or "have 38 % of the variance" in page
    assert "It goes on from" not in page


def test_where_it_begins_is_told(make_report, usual_blocks):
    origin = MapOrigin("t-sne", "r" * 32, (0.25, 0.125), HOSTILE, 0.015)
    page = render_html(make_report(usual_blocks, drawn=DrawnMap(origin, 1200)))
    assert "t-SNE" in page
    assert "It goes on from the map of &lt;b&gt;v1&lt;/b&gt;" in page
    assert HOSTILE not in page


@pytest.mark.parametrize("why", ["no row has a vector with a direction", None])
def test_a_version_without_a_map_says_why_or_nothing(make_report, usual_blocks, why):
    report = make_report(usual_blocks, drawn=why)
    assert ("map" in report) == (why is not None)
    assert ("There is no map" in render_html(report)) == (why is not None)
