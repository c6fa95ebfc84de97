"""Rows in = rows out + rejects, every id once: every format, compression and size."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from itertools import product
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from running import Dataset, sentence, tiny_job

from embedkit.config import JobConfig
from embedkit.engines.run import run_job

COMPRESSIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "none": ("", bytes),
    "gzip": (".gz", lambda data: gzip.compress(data, 1)),
    "zstd": (".zst", zstandard.compress),
    "bz2": (".bz2", lambda data: bz2.compress(data, 1)),
    "xz": (".xz", lambda data: lzma.compress(data, preset=0)),
}
FORMS = [
    *product(["line", "paragraph", "file", "jsonl", "csv", "tsv"], COMPRESSIONS),
    ("parquet", "none"),
]
EMPTY = 7
"""Every record whose number is so modulo ``EVERY`` has no text."""
EVERY = 50


def rows_of(count: int, distinct: int) -> list[dict[str, str]]:
    texts = [sentence(number, 1 + number % 9) for number in range(min(count, distinct))]
    return [
        {"id": f"r{n}", "text": "" if n % EVERY == EMPTY else texts[n % distinct], "kind": f"k{n}"}
        for n in range(count)
    ]


def separated(rows: list[dict[str, str]], delimiter: str) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["id", "text", "kind"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def serialized(form: str, rows: list[dict[str, str]]) -> bytes:
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if form in ("csv", "tsv"):
        return separated(rows, "\t" if form == "tsv" else ",")
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=max(1, len(rows) // 5))
        return sink.getvalue()
    between = "\n\n" if form == "paragraph" else "\n"
    return between.join(row["text"] for row in rows).encode()


def write_form(folder: Path, form: str, compression: str, rows: list[dict[str, str]]) -> dict:
    """Writes records in two files, or a file for each; returns what the job must say of them."""
    folder.mkdir()
    suffix, compress = COMPRESSIONS[compression]
    plain = form in ("line", "paragraph", "file")
    name = "txt" if plain else form
    half = max(1, len(rows) // 2)
    groups = [[row] for row in rows] if form == "file" else [rows[:half], rows[half:]]
    for number, group in enumerate(filter(None, groups)):
        path = folder / f"{number:07d}.{name}{suffix}"
        path.write_bytes(compress(serialized(form, group)))
    if plain:
        return {"text_unit": form}
    return {"id_column": "id", "metadata_columns": ("kind",)}


def expected_of(form: str, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Blank lines and empty files are no documents of a plain text."""
    return [row for row in rows if row["text"] or form not in ("line", "paragraph", "file")]


def check(job: JobConfig, form: str, rows: list[dict[str, str]]) -> None:
    """Counts and compares with DuckDB, in the order of the corpus."""
    dataset = Dataset.only(job.output)
    documents = expected_of(form, rows)
    good = [row for row in documents if row["text"]]
    manifest = dataset.manifest
    assert (manifest["documents"], manifest["rows"]) == (len(documents), len(good))
    assert manifest["rejects"] == len(dataset.rejects) == len(documents) - len(good)
    assert {reject["reason"] for reject in dataset.rejects} <= {"empty_text"}
    assert not list((Path(job.output) / ".tmp").iterdir())
    if not good:
        return
    read = f"read_parquet('{dataset.folder}/data/*.parquet')"
    distinct = "count(*), count(DISTINCT id), count(DISTINCT (source, row_index))"
    assert duckdb.sql(f"SELECT {distinct} FROM {read}").fetchall() == [(len(good),) * 3]
    order = "ORDER BY source, row_index"
    found = duckdb.sql(f"SELECT * FROM {read} {order}").to_arrow_table()
    assert found["text"].to_pylist() == [row["text"] for row in good]
    if job.id_column:
        assert found["id"].to_pylist() == [row["id"] for row in good]
        assert found["kind"].to_pylist() == [row["kind"] for row in good]
        rejected = [row["id"] for row in documents if not row["text"]]
        assert sorted(reject["doc_id"] for reject in dataset.rejects) == sorted(rejected)


def run(tmp_path: Path, model: str, form: str, compression: str, count: int, **changes) -> None:
    rows = rows_of(count, distinct=changes.pop("distinct", count))
    settings = write_form(tmp_path / "corpus", form, compression, rows)
    job = tiny_job(
        model,
        tmp_path / "corpus",
        tmp_path / "out",
        store_text=True,
        **(settings | {"split_bytes": 8192, "block_rows": 128} | changes),
    )
    result = run_job(job)
    assert result.documents == len(expected_of(form, rows))
    assert result.rows + result.rejects == result.documents
    check(job, form, rows)


@pytest.mark.parametrize("count", [1, 600])
@pytest.mark.parametrize(("form", "compression"), FORMS)
@pytest.mark.few(20)
def test_every_form(form, compression, count, tiny_model, tmp_path):
    few = form == "file" and count > 1
    run(tmp_path, tiny_model, form, compression, 60 if few else count)


def test_a_corpus_of_rejects_alone(tiny_model, tmp_path):
    rows = [{"id": f"r{n}", "text": " ", "kind": ""} for n in range(3)]
    settings = write_form(tmp_path / "corpus", "jsonl", "none", rows)
    result = run_job(tiny_job(tiny_model, tmp_path / "corpus", tmp_path / "out", **settings))
    assert (result.documents, result.rows, result.rejects) == (3, 0, 3)
    dataset = Dataset.only(tmp_path / "out")
    assert dataset.parts == []
    assert [reject["doc_id"] for reject in dataset.rejects] == ["r0", "r1", "r2"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("form", "compression"), [pair for pair in FORMS if pair[0] != "file"] + [("file", "none")]
)
def test_a_million_records(form, compression, tiny_model, tmp_path):
    """A thousand texts in turn: they cost little to encode, and every row counts all the same."""
    run(
        tmp_path,
        tiny_model,
        form,
        compression,
        100_000 if form == "file" else 1_000_000,
        distinct=1000,
        split_bytes=4 << 20,
        block_rows=16_384,
        engine="local" if (form, compression) == ("jsonl", "gzip") else "plain",
    )
