"""The rows of a map as a page holds them."""

import numpy as np
import pyarrow as pa
import pytest
from map_tables import map_table, named_clusters

from embedkit.reports.plots import map_rows as module
from embedkit.reports.plots.colours import BACK, GROUPS, STEPS
from embedkit.reports.plots.map_rows import MOST_BYTES, MOST_ROWS, map_rows
from embedkit.reports.render import render_html


def labels_of(colouring):
    return [colouring.labels[code] for code in colouring.codes]


def of(table, name, clusters=()):
    (found,) = [one for one in map_rows(table, clusters).colourings if one.name == name]
    return found


def test_rows_keep_their_places_ids_and_texts():
    table = map_table(40)
    rows = map_rows(table)
    assert rows.x.tolist() == table["x"].to_pylist()
    assert rows.y.tolist() == table["y"].to_pylist()
    assert rows.ids == table["id"].to_pylist()
    assert rows.texts == table["text"].to_pylist()
    assert rows.rows == 40


def test_clusters_are_named_by_their_terms_and_rows_of_none_come_last():
    found = of(map_table(40), "Cluster", named_clusters("a", "b", "c"))
    wanted = ["none" if place % 10 == 9 else "abc"[place % 3] for place in range(40)]
    assert labels_of(found) == wanted
    assert found.colours == [*GROUPS[:3], BACK]
    many = of(map_table(40, clusters=12), "Cluster", named_clusters(*"abcdefghijkl"))
    assert many.colours == [*GROUPS, *GROUPS[:3], BACK]


def test_what_no_row_is_has_no_label():
    numbers = pa.array([place % 2 for place in range(9)], pa.int32())
    table = map_table(9)
    table = table.set_column(table.column_names.index("cluster"), "cluster", numbers)
    assert of(table, "Cluster", named_clusters("a", "b")).labels == ["a", "b"]
    years = pa.array(range(1900, 2000), pa.int32())
    found = of(map_table(100, metadata={"year": years}), "year")
    assert "null" not in found.labels
    assert len(found.colours) == len(found.labels) == len(STEPS)


def test_without_clusters_the_file_is_the_first_colouring():
    assert [one.name for one in map_rows(map_table(9)).colourings] == ["Input file"]


def test_the_commonest_values_have_colours_and_every_row_its_value():
    values = [f"v{min(place % 40, 12)}" for place in range(200)]
    values[0] = None
    found = of(map_table(200, metadata={"kind": values}), "kind")
    assert labels_of(found) == ["null" if value is None else value for value in values]
    assert found.labels[0] == "v12"
    counts = np.bincount(found.codes)
    assert (np.diff(counts) <= 0).all()
    assert found.colours == [*GROUPS, *[BACK] * (len(found.labels) - len(GROUPS))]


def test_of_too_many_values_the_rest_are_counted():
    values = [f"v{place % 300}" for place in range(900)]
    found = of(map_table(900, metadata={"kind": values}), "kind")
    assert len(found.labels) == 201
    assert found.labels[-1] == "one of 100 other values"
    assert (found.codes == 200).sum() == 300


@pytest.mark.parametrize("skewed", [False, True])
def test_many_numbers_become_steps_of_like_size(skewed):
    numbers = np.random.default_rng(3).integers(-50, 3000, 1000)
    if skewed:
        numbers[:700] = 5
    column = pa.array(numbers, mask=np.arange(1000) % 50 == 0)
    found = of(map_table(1000, metadata={"year": column}), "year")
    assert len(found.labels) <= len(STEPS) + 1
    for number, label in zip(column.to_pylist(), labels_of(found), strict=True):
        if number is None:
            assert label == "null"
        else:
            low, _, high = label.partition(" to ")
            assert int(low) <= number <= int(high or low)
    if not skewed:
        assert np.ptp(np.bincount(found.codes)[:-1]) <= 12
    assert found.colours[-1] == BACK


def test_few_numbers_and_booleans_are_values():
    metadata = {"stars": [1, 5] * 10, "valid": [True, None] * 10}
    table = map_table(20, metadata=metadata)
    assert labels_of(of(table, "stars")) == ["1", "5"] * 10
    assert labels_of(of(table, "valid")) == ["true", "null"] * 10


def test_of_a_long_path_the_end_is_shown():
    found = of(map_table(2, sources=["gs://" + "long/" * 40 + "a.jsonl"] * 2), "Input file")
    (label,) = found.labels
    assert label.endswith("long/a.jsonl") and len(label) == 60


@pytest.mark.parametrize("texts", [[None] * 9, ["", None] * 4 + [None]])
def test_a_map_may_have_no_texts(texts):
    rows = map_rows(map_table(9, texts=texts))
    assert rows.texts == (None if texts[0] is None else [""] * 9)


def test_texts_are_cut_until_a_page_has_room_for_them(monkeypatch):
    long = ["日本語の文章" * 40] * 400
    assert map_rows(map_table(400, texts=long)).text_length == 100
    lengths = []
    for most in (120_000, 60_000, 40_000, 12_000):
        monkeypatch.setattr(module, "MOST_BYTES", most)
        rows = map_rows(map_table(400, texts=long))
        lengths.append(rows.text_length)
        assert rows.texts is None or max(map(len, rows.texts)) == rows.text_length
    assert lengths == [80, 40, 25, 0]
    assert rows.texts is None


@pytest.mark.soak
def test_a_page_of_any_corpus_stays_small(make_report):
    table = map_table(
        30_000,
        texts=["日本語の文章です" * 40] * 30_000,
        ids=[f"{'识别' * 40}{n}" for n in range(30_000)],
        sources=[f"{n}/{'長い道' * 60}.jsonl" for n in range(30_000)],
        metadata={
            f"列{n}" * 30: [f"{row % 5000}{'値' * 90}" for row in range(30_000)] for n in range(30)
        },
    )
    report = make_report([]) | {
        "sections": ["records", "map"],
        "map": {"measured": True, "method": "pca", "explained": (0.5, 0.3), "start": None}
        | {"rows": 30_000, "file": "report/map.parquet"},
        "clusters": {"clusters": named_clusters(*["语" * 90] * 30)},
    }
    assert len(render_html(report, placed=table).encode()) < 8_000_000


def test_ids_are_cut_as_well(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 20_000)
    rows = map_rows(map_table(400, ids=[f"{n:0200}" for n in range(400)]))
    assert max(map(len, rows.ids)) == 30


def test_a_page_shows_no_more_than_so_many_rows():
    rows = map_rows(map_table(MOST_ROWS + 5))
    assert len(rows.ids) == len(rows.x) == len(rows.colourings[0].codes) == MOST_ROWS
    assert rows.rows == MOST_ROWS + 5
    assert MOST_BYTES < 8_000_000 - 2_500_000


def test_all_that_is_shown_is_made_plain():
    bad = "a\x00\u2028\ud800b"
    bad_bytes = "a\x00\u2028b"
    rows = map_rows(
        map_table(2, texts=[bad_bytes] * 2, metadata={bad_bytes: [bad_bytes] * 2}),
        named_clusters(bad, bad, bad),
    )
    shown = [*rows.texts, *(text for one in rows.colourings for text in [one.name, *one.labels])]
    assert not [text for text in shown if {"\x00", "\u2028", "\ud800"} & set(text)]
