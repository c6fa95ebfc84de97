"""A complete version, opened for scripts and notebooks."""

import pickle
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from blocks import make_options, small_job
from releases import FIXTURES, MODEL, copy_of_root

from embedkit.dataset.describe import describe
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search import reader as reader_module
from embedkit.search.query import search_text
from embedkit.search.reader import VersionReader, open_version

ROOT = FIXTURES / "0.1.0" / "root"
NEWEST = ROOT / (ROOT / "LATEST").read_text().strip()


def by_duckdb(columns: str) -> list[tuple]:
    return duckdb.sql(f"SELECT {columns} FROM '{NEWEST}/data/*.parquet' ORDER BY id").fetchall()


@pytest.fixture(scope="module")
def rows() -> VersionReader:
    return open_version(ROOT, model=str(MODEL))


@pytest.mark.parametrize("path", [ROOT, NEWEST, str(ROOT), f"{NEWEST}/"], ids=repr)
def test_a_root_and_a_version_are_opened(path):
    rows = open_version(path)
    assert (rows.name, rows.url) == (NEWEST.name, str(NEWEST))
    assert (len(rows), rows.dimension, rows.metric) == (15, 8, "cosine")
    assert rows.metadata == describe(Version(str(ROOT), NEWEST.name))
    assert rows.model == rows.metadata["model"]


def test_it_says_what_it_is_on_one_line(rows):
    assert repr(rows) == (
        f"VersionReader({str(NEWEST)!r}: 15 rows of 8 components, metric cosine, "
        f"model {rows.model!r})"
    )


def test_all_rows_come_with_all_columns(rows):
    table = pa.Table.from_batches(rows.to_batches())
    assert table.schema.names == rows.schema.names
    names = ["id", "source", "row_index", "n_tokens", "truncated", "stars", "title"]
    found = [tuple(row[name] for name in names) for row in table.to_pylist()]
    assert sorted(found) == by_duckdb(", ".join(names))


def test_columns_come_as_asked_for(rows):
    (names,) = {tuple(one.schema.names) for one in rows.to_batches(["title", "id"])}
    assert names == ("title", "id")
    with pytest.raises(ConfigError, match="no column 'titel'; there are id, embedding"):
        rows.to_batches(["titel"])
    with pytest.raises(ConfigError, match=r"columns: give a list, as \['title'\]"):
        rows.to_batches("title")


def test_columns_may_come_from_an_iterator(rows):
    (names,) = {tuple(one.schema.names) for one in rows.to_batches(iter(["title", "id"]))}
    assert names == ("title", "id")


def test_vectors_are_those_of_the_files(rows):
    ids, vectors = rows.vectors()
    assert (vectors.shape, vectors.dtype) == ((15, 8), np.float32)
    expected = dict(by_duckdb("id, embedding"))
    assert dict(zip(ids, vectors.tolist(), strict=True)) == {
        name: list(vector) for name, vector in expected.items()
    }


def test_vectors_stored_as_float16_come_as_float32(tmp_path):
    job = small_job(dtype="float16")
    job.options = make_options(vector_dtype="float16")
    version = Version(str(tmp_path / "root"), "v1")
    job.complete(version)
    ids, vectors = open_version(version.url).vectors()
    assert vectors.dtype == np.float32
    written = np.concatenate([block.vectors.matrix for block in job.blocks])
    np.testing.assert_array_equal(vectors, written.astype(np.float32))
    assert len(ids) == 12


def test_a_version_without_rows_has_none(tmp_path):
    job = small_job()
    job.blocks = [job.blocks[2]]
    version = Version(str(tmp_path / "root"), "v1")
    job.complete(version)
    rows = open_version(version.url)
    assert len(rows) == 0
    assert list(rows.to_batches(["id"])) == []
    ids, vectors = rows.vectors()
    assert (ids, vectors.shape) == ([], (0, 8))


def test_a_text_finds_what_the_command_finds_with_its_place(rows):
    hits = rows.search("one two three", k=4)
    for place in (str, Path):
        assert hits == search_text(place(ROOT), "one two three", 4, place(MODEL))
    assert len(hits) == 4
    assert all(hit.place.startswith("line ") for hit in hits)


def test_vectors_find_the_nearest_rows_by_numpy(rows):
    ids, vectors = rows.vectors()
    queries = np.random.default_rng(3).standard_normal((5, 8)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    scores = queries @ vectors.T / lengths
    expected = [[ids[row] for row in order[:3]] for order in np.argsort(-scores, axis=1)]
    assert [[hit.id for hit in hits] for hits in rows.search(queries, k=3)] == expected
    (alone,) = rows.search(queries[2], k=3)
    assert [hit.id for hit in alone] == expected[2]


def test_the_model_is_loaded_once_for_many_texts(monkeypatch):
    made = []

    class Counted(reader_module.QueryEncoder):
        def __init__(self, *arguments: object) -> None:
            made.append(arguments[3:])
            super().__init__(*arguments)

    monkeypatch.setattr(reader_module, "QueryEncoder", Counted)
    rows = open_version(ROOT, model=str(MODEL))
    first = rows.search("corpus")
    assert rows.search("corpus") == first != rows.search("corpus", prompt="counted ")
    rows.search("vectors", prompt="counted ")
    assert made == [(None, None), (None, "counted ")]


def test_processes_get_it_by_pickling(rows):
    hits = rows.search("one two three", k=2)
    there = pickle.loads(pickle.dumps(rows))
    assert (there.url, there.metadata) == (rows.url, rows.metadata)
    assert there.search("one two three", k=2) == hits


@pytest.mark.parametrize(
    ("query", "settings", "said"),
    [
        (" ", {}, "the text to look for is empty"),
        # As the shell hands over bytes that are not UTF-8.
        ("Z\udcfcrich", {}, "the text to look for holds half a character"),
        ("words", {"prompt": "\udcfc: "}, "the prompt holds half a character"),
        (np.ones(7, np.float32), {}, "have 8 components"),
        (np.full(8, np.nan, np.float32), {}, "not finite"),
        (np.ones(8, np.float32), {"k": 0}, "k is 0"),
        (np.ones(8, np.float32), {"k": 2.5}, "k is 2.5, expected a whole number"),
        (np.ones(8, np.float32), {"k": None}, "k is None, expected a whole number"),
        (["words", "others"], {}, "queries: no vectors; .*, or one text"),
        (np.ones(8, np.float32), {"prompt": "query: "}, "a prompt goes before a text"),
        ("words", {"prompt": "a", "prompt_name": "b"}, "take one of them"),
    ],
)
def test_a_query_that_is_none_is_refused(rows, query, settings, said):
    with pytest.raises(ConfigError, match=said):
        rows.search(query, **settings)


def test_what_cannot_be_opened_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match=f"{tmp_path}/none: .*no such directory"):
        open_version(tmp_path / "none")
    with pytest.raises(ConfigError, match="nightly: not complete yet; run its job to the end"):
        open_version(ROOT / "nightly")
    root = copy_of_root("0.1.0", tmp_path / "root")
    (root / NEWEST.name / "_meta" / "manifest.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        open_version(root)


def test_a_damaged_part_is_named_when_it_is_read(tmp_path):
    root = copy_of_root("0.1.0", tmp_path / "root")
    part = sorted((root / NEWEST.name / "data").iterdir())[1]
    part.write_bytes(part.read_bytes()[:-9])
    rows = open_version(root, model=str(MODEL))
    for read in (rows.vectors, lambda: list(rows.to_batches()), lambda: rows.search("corpus")):
        with pytest.raises(IntegrityError, match=part.name):
            read()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda table: table.slice(1), "rows, expected"),
        (lambda table: table.drop_columns(["embedding"]), "no column 'embedding'"),
    ],
)
def test_a_part_that_is_another_is_named_when_it_is_read(tmp_path, other, said):
    root = copy_of_root("0.1.0", tmp_path / "root")
    part = sorted((root / NEWEST.name / "data").iterdir())[0]
    pq.write_table(other(pq.read_table(part)), part)
    rows = open_version(root)
    for read in (rows.vectors, lambda: rows.search(np.ones(8, np.float32))):
        with pytest.raises(IntegrityError, match=f"{part.name}: .*{said}"):
            read()


def test_a_version_published_meanwhile_is_another(tmp_path):
    root = copy_of_root("0.1.0", tmp_path / "root")
    rows = open_version(root)
    shutil.copytree(root / NEWEST.name, root / "later")
    (root / "LATEST").write_text("later")
    assert rows.name == NEWEST.name
    assert len(rows.vectors()[0]) == 15


def test_a_version_on_s3_is_read_and_says_no_secret(bucket, monkeypatch):
    s3fs.S3FileSystem().put(str(ROOT), f"{bucket}/root", recursive=True)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    rows = open_version(f"s3://nobody:hidden@{bucket}/root")
    assert rows.vectors()[0] == open_version(ROOT).vectors()[0]
    assert rows.url == f"s3://{bucket}/root/{NEWEST.name}"
    assert "hidden" not in repr(rows)
