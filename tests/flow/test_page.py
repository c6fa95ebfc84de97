"""The page of a version, with the map that the version has."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from map_tables import map_table
from pages import Page
from reporting import make_report

from embedkit.dataset.version import Version
from embedkit.flow.map import MAP
from embedkit.flow.page import write_page
from embedkit.flow.verdict import REPORT_HTML


@pytest.fixture
def version(tmp_path):
    return Version(str(tmp_path), "v1")


@pytest.fixture(scope="module")
def report():
    drawn = {"measured": True, "method": "pca", "rows": 9, "start": None, "explained": (0.5, 0.3)}
    made = make_report([])
    return {
        **made,
        "sections": [*made["sections"], "map"],
        "map": {**drawn, "file": MAP, "why": None},
    }


def page_of(version, report):
    write_page(version, report)
    return Page((version.store.read(version.key(REPORT_HTML)) or b"").decode())


def put_map(version, rows=9):
    folder = f"{version.url}/report"
    version.store.create(version.key(MAP), b"")
    pq.write_table(map_table(rows), f"{folder}/map.parquet")


def test_a_page_holds_the_rows_of_the_map(version, report):
    put_map(version)
    page = page_of(version, report)
    assert page.data["map-data"]["ids"] == [f"row-{n}" for n in range(9)]
    assert "Map of 9 rows." in page.words
    assert page.asks_for_nothing


def test_a_version_without_a_map_has_a_page_all_the_same(version, report):
    page = page_of(version, report)
    assert "map-data" not in page.data
    assert "Each dot is a row" not in page.words


def test_a_map_that_the_report_does_not_know_is_not_shown(version, report):
    put_map(version)
    known = {**report, "map": {"measured": False, "why": "no row has a direction"}}
    assert "map-data" not in page_of(version, known).data
    earlier = {name: value for name, value in report.items() if name != "map"}
    earlier["sections"] = earlier["sections"][:-1]
    assert "map-data" not in page_of(version, earlier).data


@pytest.mark.parametrize(
    "other",
    [
        None,
        map_table(9).drop_columns(["y"]),
        map_table(0),
        map_table(8),
        map_table(9).set_column(0, "id", pa.array(range(9))),
        map_table(9).set_column(3, "cluster", pa.array(["a"] * 9)),
        map_table(9).append_column("x", map_table(9)["x"]),
    ],
)
def test_a_damaged_map_is_told_of_and_left_out(version, report, caplog, other):
    version.store.create(version.key(MAP), b"PAR1 torn")
    if other is not None:
        pq.write_table(other, f"{version.url}/{MAP}")
    with caplog.at_level(logging.WARNING):
        page = page_of(version, report)
    assert "map-data" not in page.data
    (line,) = caplog.messages
    assert line.startswith(f"{version.url_of(version.key(MAP))}: damaged (")
    assert line.endswith("; the page shows no map")
