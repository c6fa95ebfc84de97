"""Maps of versions: what the file holds, and where it begins."""

import json
import logging

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import DESCRIPTION, Job, build_block, make_block, make_options
from nights import nightly_job
from nights import run as run_night

from embedkit.dataset.publication import publish, published_before
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.flow.examine import examine_rows
from embedkit.flow.map import MAP, draw_map
from embedkit.reports.map import clusters, placed
from embedkit.reports.map import tsne as tsne_module
from embedkit.reports.map.components import extent
from embedkit.reports.map.table import read_map

RECIPE = {**DESCRIPTION, "recipe": "r" * 32}


def vectors_of(rows, seed=0):
    random = np.random.default_rng(seed)
    vectors = (np.eye(8) * np.linspace(1.5, 0.5, 8))[np.arange(rows) % 5] + 0.3 * random.normal(
        size=(rows, 8)
    )
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def block_of(rows, split=0, first=0, vectors=None, texts=None):
    ids = [f"doc-{first + row}" for row in range(rows)]
    texts = texts or [f"text of {one}" for one in ids]
    vectors = vectors_of(first + rows)[first:] if vectors is None else vectors
    return build_block(texts, vectors, ids=ids, split=split, source=f"{split}.jsonl")


def draw(version, blocks, texts=True, **options):
    """A complete version with its map."""
    made = Job(blocks, make_options(store_text=True, **options), dict(RECIPE))
    manifest = made.complete(version)
    return draw_map(version, manifest, examine_rows(version, manifest.parts, texts))


def read(version):
    return pd.read_parquet(f"{version.url}/{MAP}").set_index("id")


def rewrite(version, table, said):
    with pq.ParquetWriter(f"{version.url}/{MAP}", table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(said)


@pytest.fixture
def root(tmp_path):
    return Version(str(tmp_path), "v1")


@pytest.fixture
def tsne(monkeypatch):
    """Few rows are enough for clusters and for t-SNE."""
    monkeypatch.setattr(clusters, "LEAST_ROWS", 100)
    monkeypatch.setattr(placed, "FEWEST_FOR_TSNE", 100)
    for name in ("_TEARING", "_SETTLING"):
        monkeypatch.setattr(tsne_module, name, 40)


def test_the_file_is_what_other_readers_read(root, tsne):
    block = make_block(
        0,
        0,
        150,
        metadata={
            "lang": pa.array(["de", None, "x" * 300] * 50),
            "year": pa.array(range(150), pa.int64()),
            "free": pa.array([True] * 150),
            "price": pa.array([0.5] * 150),
            "tags": pa.array([["a"]] * 150),
            "cluster": pa.array(["mine"] * 150),
            "x": pa.array([7] * 150),
            "ID": pa.array([8] * 150),
        },
    )
    drawn = draw(root, [block])
    assert (drawn.rows, drawn.origin.method, drawn.origin.start) == (150, "t-sne", None)
    path = f"{root.url}/{MAP}"
    kinds = duckdb.sql(f"describe select * from '{path}'").fetchall()
    assert [(name, kind) for name, kind, *_ in kinds] == [
        ("id", "VARCHAR"), ("x", "FLOAT"), ("y", "FLOAT"), ("cluster", "INTEGER"),
        ("source", "VARCHAR"), ("text", "VARCHAR"), ("lang", "VARCHAR"), ("year", "BIGINT"),
        ("free", "BOOLEAN"), ("metadata_cluster", "VARCHAR"), ("metadata_x", "BIGINT"),
        ("metadata_ID", "BIGINT"),
    ]  # fmt: skip
    joined = duckdb.sql(
        f"select count(*), count(m.lang), max(length(m.lang)) from '{path}' m "
        f"join '{root.url}/data/*.parquet' d using (id) "
        "where m.text = d.text and m.source = d.source and m.year = d.year"
    ).fetchall()
    # One more than is told apart, so that a longer value is known to be one.
    assert joined == [(150, 100, 201)]
    rows = read(root)
    # Equal texts are in one place.
    assert rows.loc["doc-0-0-0", ["x", "y", "cluster"]].equals(
        rows.loc["doc-0-0-1", ["x", "y", "cluster"]]
    )
    assert len(rows[["x", "y"]].drop_duplicates()) == 149
    assert set(rows["cluster"]) == {0, 1, 2, 3}
    order = examine_rows(root, Job([block]).complete(root).parts).sample.drawn()
    assert rows.index.tolist() == order.columns.column("id").to_pylist()


def test_no_reader_of_the_version_takes_it_for_rows(root):
    draw(root, [make_block(0, 0, 20), make_block(1, 0, 20)])
    assert validate(root).ok
    assert len(pq.read_table(f"{root.url}/data")) == 40


def test_few_rows_have_a_map_without_clusters_and_none_has_none(root):
    drawn = draw(root, [make_block(0, 0, 3)])
    assert (drawn.rows, drawn.origin.method) == (3, "pca")
    assert read(root)["cluster"].tolist() == [-1, -1, -1]
    assert "no row" in draw(root.sibling("v2"), [make_block(0, 0, 0, rejects=1)])
    vectors = np.zeros((2, 8), np.float32)
    assert "no row" in draw(root.sibling("v3"), [block_of(2, vectors=vectors)])
    assert draw_map(root, None, None) is None


def test_rows_without_a_direction_are_left_out(root):
    vectors = vectors_of(9)
    vectors[2], vectors[5] = 0, np.inf
    assert draw(root, [block_of(9, vectors=vectors)]).rows == 7
    assert {"doc-2", "doc-5"}.isdisjoint(read(root).index)


def test_texts_that_may_not_be_shown_are_left_out(root):
    draw(root, [make_block(0, 0, 5)], texts=False)
    assert read(root)["text"].isna().all()
    assert b"text 0 0" not in root.store.read(root.key(MAP))


def test_half_precision_is_the_same_map(root, tsne):
    draw(root, [block_of(150)])
    other = Version(f"{root.root}/half", "v1")
    half = block_of(150, vectors=vectors_of(150).astype(np.float16))
    draw(other, [half], vector_dtype="float16")
    assert read(other)["cluster"].equals(read(root)["cluster"])


@pytest.mark.parametrize("method", ["pca", "t-sne"])
def test_any_blocks_have_the_same_bytes(root, method, monkeypatch, tsne):
    if method == "pca":
        monkeypatch.setattr(placed, "FEWEST_FOR_TSNE", 1000)
    made = []
    for number, size in enumerate((210, 30, 10)):
        version = Version(f"{root.root}/{number}", "v1")
        splits = range(0, 210, size)
        blocks = [
            build_block(
                [f"text {row}" for row in range(first, first + size)],
                vectors_of(210)[first : first + size],
                ids=[f"doc-{row}" for row in range(first, first + size)],
                split=split,
            )
            for split, first in enumerate(splits)
        ]
        assert draw(version, blocks).origin.method == method
        made.append(version.store.read(version.key(MAP)))
    assert made[0] == made[1] == made[2]


def night(version, rows, first=0, blocks=None):
    drawn = draw(version, blocks or [block_of(rows, first=first)])
    return drawn.origin, read(version)


def apart(one, two):
    """How far rows that are on two maps moved, as a share of their extent; nothing is turned."""
    both = one.join(two, rsuffix="_2", how="inner")
    return np.hypot(both["x"] - both["x_2"], both["y"] - both["y_2"]) / extent(one[["x", "y"]])


@pytest.mark.parametrize("method", ["pca", "t-sne"])
def test_a_map_stays_still_from_night_to_night(root, method, monkeypatch, tsne):
    if method == "pca":
        monkeypatch.setattr(placed, "FEWEST_FOR_TSNE", 1000)
    origin, first = night(root, 300)
    assert (origin.start, origin.moved) == (None, None)
    origin, second = night(root.sibling("v2"), 300, first=3)
    assert origin.start == "v1"
    assert len(apart(first, second)) == 297
    assert apart(first, second).max() < 0.2
    assert origin.moved < 0.05
    assert len(second) == 300
    # The first one is no start any more, and what is published later is none for it.
    origin, third = night(root.sibling("v3"), 300, first=4)
    assert origin.start == "v2"
    assert apart(second, third).max() < 0.2
    assert published_before(root.sibling("v2")) == "v1"
    assert published_before(root) is None


def test_a_text_that_changed_has_another_place_and_one_with_another_id_has_not(root, tsne):
    _, first = night(root, 200)
    texts = [f"text of doc-{row}" for row in range(200)]
    texts[7], vectors = "changed", vectors_of(200)
    far = np.hypot(first["x"] - first.loc["doc-7", "x"], first["y"] - first.loc["doc-7", "y"])
    vectors[7] = vectors[int(far.idxmax().removeprefix("doc-"))]
    changed = block_of(200, vectors=vectors, texts=texts)
    _, second = night(root.sibling("v2"), 0, blocks=[changed])
    moved = apart(first, second)
    assert moved["doc-7"] > 0.5
    assert moved.drop("doc-7").max() == 0
    renamed = build_block(texts, vectors, ids=[f"new-{row}" for row in range(200)])
    origin, third = night(root.sibling("v3"), 0, blocks=[renamed])
    places = ["text", "x", "y"]
    assert origin.moved == 0
    pd.testing.assert_frame_equal(
        second[places].sort_values("text").reset_index(drop=True),
        third[places].sort_values("text").reset_index(drop=True),
    )


def test_a_map_that_stands_is_drawn_again_as_it_is(root, tsne):
    draw(root, [block_of(150)])
    other = root.sibling("v2")
    job = Job([block_of(150, first=5)], make_options(store_text=True), dict(RECIPE))
    manifest = job.seal(other)
    examined = examine_rows(other, manifest.parts, True)
    origin = draw_map(other, manifest, examined).origin
    assert origin.start == "v1"
    data = other.store.read(other.key(MAP))
    publish(other)
    # As after a prune, and after what a later version did.
    root.store.remove(root.key(MAP))
    draw(root.sibling("v3"), [block_of(150, first=60)])
    assert draw_map(other, manifest, examined).origin == origin
    assert other.store.read(other.key(MAP)) == data


@pytest.mark.parametrize(
    "damage", ["gone", "torn", "rows", "texts", "origin", "other", "types", "columns"]
)
def test_an_earlier_map_that_is_gone_or_damaged_is_done_without(root, damage, caplog):
    draw(root, [block_of(20)])
    key = root.key(MAP)
    data = root.store.read(key)
    file = pq.ParquetFile(pa.BufferReader(data))
    table, said = file.read(), dict(file.metadata.metadata)
    if damage == "gone":
        root.store.remove(key)
    elif damage == "torn":
        root.store.replace(key, data[: len(data) // 2])
    elif damage == "other":
        root.store.replace(key, b"<html>")
    else:
        if damage == "texts":
            said[b"embedkit.map.texts"] = "ü".encode()
        elif damage == "origin":
            said[b"embedkit.map"] = json.dumps({"method": "pca"}).encode()
        elif damage == "types":
            table = table.set_column(1, "x", pa.array([{"a": 1}] * 20))
        elif damage == "columns":
            table = table.drop_columns(["x", "y"])
        rows = table.slice(1) if damage == "rows" else table
        rewrite(root, rows, said)
    with caplog.at_level(logging.WARNING, "embedkit"):
        origin, found = night(root.sibling("v2"), 20, first=1)
    assert (origin.start, len(found)) == (None, 20)
    assert len(caplog.messages) == (damage != "gone")
    assert all("v1/report/map.parquet: no map (" in one for one in caplog.messages)


def test_places_that_are_no_numbers_are_places_of_no_row(root):
    draw(root, [block_of(20)])
    file = pq.ParquetFile(f"{root.url}/{MAP}")
    table = file.read()
    spoiled = pa.array([np.nan, np.inf, *table["x"].to_pylist()[2:]], pa.float32())
    rewrite(root, table.set_column(1, "x", spoiled), file.metadata.metadata)
    origin, found = night(root.sibling("v2"), 20)
    assert origin.start == "v1"
    assert np.isfinite(found[["x", "y"]]).all(axis=None)


def test_a_map_of_another_recipe_or_method_is_no_start(root, monkeypatch, tsne):
    draw(root, [block_of(120)])
    monkeypatch.setitem(RECIPE, "recipe", "q" * 32)
    assert night(root.sibling("v2"), 120, first=1)[0].start is None
    monkeypatch.setattr(placed, "FEWEST_FOR_TSNE", 1000)
    assert night(root.sibling("v3"), 120, first=2)[0].start is None


def test_what_is_read_is_what_was_written(root):
    drawn = draw(root, [block_of(20)])
    found = read_map(root.store.read(root.key(MAP)))
    assert found.origin == drawn.origin
    rows = read(root)
    assert np.array_equal(found.places, rows[["x", "y"]].to_numpy(np.float64))


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_night_begins_with_the_map_of_the_night_before(tmp_path, tiny_model, scheme):
    output = f"{scheme}{tmp_path}/out"
    lines = [json.dumps({"id": f"d{row}", "text": f"text {row}", "lang": "de"}) for row in range(9)]
    found = []
    for name, taken in (("v1", lines[:8]), ("v2", lines[1:])):
        (tmp_path / "corpus.jsonl").write_text("\n".join(taken) + "\n")
        job = nightly_job(
            tiny_model, tmp_path / "corpus.jsonl", output, version=name, metadata_columns=["lang"]
        )
        made = run_night(job).job.version
        report = json.loads(made.store.read(made.key("report/report.json")))
        found.append(report["map"])
        table = pq.read_table(pa.BufferReader(made.store.read(made.key(MAP))))
        assert table.num_rows == report["map"]["rows"] == 8
        assert table.column("lang").to_pylist() == ["de"] * 8
        elsewhere = [
            key for key in made.store.list(made.key("")) if not key.startswith(f"{name}/data/")
        ]
        assert [key for key in elsewhere if key.endswith(".parquet")] == [f"{name}/{MAP}"]
    assert [one["start"] for one in found] == [None, "v1"]
    assert [one["method"] for one in found] == ["pca", "pca"]
