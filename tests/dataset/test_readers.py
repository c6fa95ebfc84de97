"""Other libraries read a version by its glob, and Hugging Face datasets by its card."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml

from embedkit.dataset.card import dataset_card
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import seal
from embedkit.dataset.version import Version

DIMENSION = 384


@pytest.fixture(scope="module", params=["float32", "float16"])
def dataset(request, tmp_path_factory, make_block, make_job, make_options):
    """A complete version, its ids and its vectors, as they were before they were written."""
    blocks = [
        make_block(
            split,
            0,
            40,
            dimension=DIMENSION,
            rejects=1,
            dtype=request.param,
            metadata={"title": pa.array([f"title {n} 'ü'" for n in range(40)])},
        )
        for split in range(3)
    ]
    description = {
        "model": "tiny",
        "fingerprint": "f" * 32,
        "dimension": DIMENSION,
        "metric": "cosine",
        "normalized": True,
    }
    options = make_options(DIMENSION, vector_dtype=request.param, store_text=True)
    job = make_job(blocks, options=options, description=description)
    version = Version(str(tmp_path_factory.mktemp("readers")), "v1")
    job.write(version)
    manifest = finalize(version, job.splits, description)
    seal(version, manifest, partial(dataset_card, version))
    ids = [value for block in blocks for value in block.rows.column("id").to_pylist()]
    return version, ids, np.concatenate([block.vectors.matrix for block in blocks])


def check(dataset, ids, vectors):
    _, expected_ids, expected = dataset
    order = np.argsort(ids)
    right = np.argsort(expected_ids)
    assert [ids[n] for n in order] == [expected_ids[n] for n in right]
    assert np.array_equal(np.asarray(vectors)[order], expected[right])


def glob(dataset):
    return f"{dataset[0].root}/*/data/*.parquet"


def test_pyarrow(dataset):
    table = pyarrow.dataset.dataset(f"{dataset[0].url}/data", format="parquet").to_table()
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSION)
    check(dataset, table["id"].to_pylist(), vectors)
    assert table["title"].to_pylist()[0] == "title 0 'ü'"


def test_duckdb(dataset):
    query = f"SELECT id, embedding::FLOAT[{DIMENSION}] AS e, title, text FROM '{glob(dataset)}'"
    found = duckdb.sql(query).fetchnumpy()
    check(dataset, found["id"].tolist(), np.stack(list(found["e"])))
    assert found["title"][0].startswith("title ")


def test_polars(dataset):
    frame = pl.read_parquet(glob(dataset))
    check(dataset, frame["id"].to_list(), frame["embedding"].to_numpy())
    lazy = pl.scan_parquet(glob(dataset)).filter(pl.col("row_index") < 2).select("id").collect()
    assert len(lazy) == 6


def test_pandas(dataset):
    frame = pd.read_parquet(f"{dataset[0].url}/data")
    check(dataset, frame["id"].tolist(), np.stack(frame["embedding"]))


@pytest.mark.parametrize("by", ["card", "glob"])
def test_hugging_face_datasets(dataset, by, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    version = dataset[0]
    given = (
        {"path": version.url}
        if by == "card"
        else {"path": "parquet", "data_files": f"{version.url}/data/*.parquet"}
    )
    loaded = datasets.load_dataset(**given, split="train", cache_dir=str(tmp_path))
    table = loaded.with_format("arrow")[:]
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, DIMENSION)
    check(dataset, table["id"].to_pylist(), vectors)
    assert loaded[0]["title"] == "title 0 'ü'"


def snippets(card):
    parts = card.split("```")
    return [part.partition("\n")[::2] for part in parts[1::2]]


def test_the_card_s_snippets_run(dataset, tmp_path):
    version, ids, vectors = dataset
    card = version.store.read(version.card_key).decode()
    # The last one encodes a query, for which there is no model here.
    *python, _ = [code for kind, code in snippets(card) if kind == "python"]
    assert len(python) == 4
    for code in python:
        script = "import os\nos.environ['HF_HUB_OFFLINE'] = '1'\n" + code
        script += "if 'vectors' in dir(): print(vectors.shape)\nelse: print(dataset.num_rows)\n"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=version.url,
            env={"HF_HOME": str(tmp_path), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() in (f"(120, {DIMENSION})", "120")
    (sql,) = [code for kind, code in snippets(card) if kind == "sql"]
    sql = sql.replace("'data/", f"'{version.url}/data/").replace("some-id", ids[7])
    found = duckdb.sql(sql).fetchall()
    exact = vectors.astype(np.float64) @ vectors[7].astype(np.float64)
    best = np.argsort(-exact)[:10]
    assert [row[0] for row in found] == [ids[n] for n in best]


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_card_s_front_matter(dataset):
    version = dataset[0]
    matter = front_matter(version.store.read(version.card_key).decode())
    assert matter["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}
    ]
    assert matter["size_categories"] == ["n<1K"]
    assert "embeddings" in matter["tags"]


def test_the_card_says_what_is_in_the_version(dataset):
    version = dataset[0]
    card = version.store.read(version.card_key).decode()
    for line in ("| model | tiny |", "| rows | 120 |", "| rejects | 3 |", "| documents | 123 |"):
        assert line in card
    schema = pq.read_schema(version.store.open("v1/data/part-00000-00000.parquet"))
    for name in schema.names:
        assert f"| {name} |" in card


def test_nothing_in_a_card_is_markup(version, job, make_block, make_job):
    evil = "x</td><script>alert(1)</script> | `a` *b* [c](http://d) \n---\nconfigs: e _f_ ~g~ &lt;"
    blocks = [make_block(metadata={evil: pa.array(["v"] * 5)})]
    job = make_job(blocks, description={**job.description, "model": evil, "prompt": evil})
    job.write(version)
    card = dataset_card(version, finalize(version, job.splits, job.description))
    assert set(front_matter(card)) == {
        "pretty_name", "tags", "task_categories", "size_categories", "configs",
    }  # fmt: skip
    body = card.split("---\n", 2)[2].partition("## Reading it")[0]
    for mark in ("<", "`a`", "*b*", "[c]", "](", "http:", "_f_", "~g~", "&lt;"):
        assert mark not in body.replace("`data/`", "").replace("`rejects/`", "")
    assert len([line for line in body.splitlines() if "script" in line]) == 3


def test_the_card_of_a_version_without_rows(version, make_job, make_block):
    job = make_job([make_block(rows=0, rejects=1)])
    job.write(version)
    card = dataset_card(version, finalize(version, job.splits, job.description))
    assert "configs" not in front_matter(card)
    assert "## Columns" not in card


def test_nothing_but_parts_is_found_by_a_glob_over_data_folders(dataset):
    """Over everything, it finds the maps of reports as well."""
    version = dataset[0]
    (report := Path(version.url) / "report").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": ["a"], "x": [0.5], "y": [0.5]}), report / "map.parquet")
    rows = f"{version.root}/**/data/*.parquet"
    assert duckdb.sql(f"SELECT count(*) FROM '{rows}'").fetchall() == [(120,)]
    assert pl.scan_parquet(rows).select(pl.len()).collect().item() == 120
