"""Every format with every compression gives the records that other libraries read."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import COMPRESS, read_corpus, write
from texts import FOREIGN, paragraphs, topics_of_python

RECORDS = [
    {"id": f"r{n}", "text": f'Nr. {n}, "quoted"\tüber 漢字 {"x" * (n * 37 % 200)}', "n": n}
    for n in range(500)
]


def as_csv(records: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    ".txt": lambda records: "".join(record["text"] + "\n" for record in records),
    ".jsonl": lambda records: "".join(json.dumps(record) + "\n" for record in records),
    ".ndjson": lambda records: "\r\n".join(json.dumps(record) for record in records),
    ".csv": as_csv,
    ".tsv": lambda records: as_csv(records, "\t"),
}


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_and_compression(tmp_path: Path, suffix: str, compression: str) -> None:
    path = write(tmp_path / f"data{suffix}{compression}", WRITERS[suffix](RECORDS))
    columns = {} if suffix == ".txt" else {"id_column": "id", "metadata_columns": ("n:int64",)}
    if suffix == ".tsv":
        columns["quote"] = '"'
    corpus = read_corpus(tmp_path, split_bytes=4000, block_rows=90, **columns)
    assert corpus.rejects == []
    assert corpus.texts == [record["text"] for record in RECORDS]
    assert len(corpus.plan.splits) > 5 or compression or suffix in (".csv", ".tsv")
    assert max(block.rows.num_rows for block in corpus.blocks) <= 90
    table = corpus.table
    assert set(table["source"].to_pylist()) == {path.name}
    assert table["char_end"].to_pylist() == [len(record["text"]) for record in RECORDS]
    if columns:
        assert corpus.ids == [record["id"] for record in RECORDS]
        assert table["n"].to_pylist() == [record["n"] for record in RECORDS]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize(("unit", "count"), [("paragraph", 200), ("file", 1)])
def test_paragraphs_and_whole_files(
    tmp_path: Path, unit: str, count: int, compression: str
) -> None:
    wanted = [f"line one of {n}\nline two" for n in range(200)]
    content = "\n\n".join(wanted)
    write(tmp_path / f"data.txt{compression}", content)
    corpus = read_corpus(tmp_path, text_unit=unit, split_bytes=500)
    assert corpus.texts == (wanted if unit == "paragraph" else [content])
    assert len(corpus.texts) == count


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
def test_parquet(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), path, 70, compression=compression)
    corpus = read_corpus(path, split_bytes=3000, id_column="id", metadata_columns=("n",))
    assert len(corpus.plan.splits) > 2
    wanted = duckdb.sql(f"select id, text, n from '{path}'").fetchall()
    assert [(row["id"], row["text"], row["n"]) for row in corpus.rows] == wanted
    assert corpus.table["row_index"].to_pylist() == list(range(500))


def test_formats_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "export.dump"
    path.write_bytes(gzip.compress(as_csv(RECORDS).encode()))
    corpus = read_corpus(path, format="csv", compression="gzip")
    assert corpus.texts == [record["text"] for record in RECORDS]


MEMBERS = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": COMPRESS[".bz2"],
    ".xz": COMPRESS[".xz"],
}


@pytest.mark.parametrize("suffix", MEMBERS)
def test_files_of_several_members(tmp_path: Path, suffix: str) -> None:
    # Members end in the middle of a line, and one of them is empty.
    pieces = [b'{"text": "one"}\n{"te', b'xt": "two"}\n', b"", b'{"text": "three"}']
    path = tmp_path / f"data.jsonl{suffix}"
    path.write_bytes(b"".join(map(MEMBERS[suffix], pieces)))
    assert read_corpus(path).texts == ["one", "two", "three"]


def test_zstd_with_skippable_frames_and_tiny_frames(tmp_path: Path) -> None:
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    frames = [zstandard.compress(f"line {n}\n".encode()) for n in range(2000)]
    path = tmp_path / "data.txt.zst"
    path.write_bytes(skippable + b"".join(frames[:1000]) + skippable + b"".join(frames[1000:]))
    assert read_corpus(path).texts == [f"line {n}" for n in range(2000)]


cells = st.text(
    st.one_of(st.sampled_from('",\t\n\r ;|é😀'), st.characters(exclude_categories=["Cs"])),
    min_size=1,
    max_size=20,
).filter(lambda cell: cell.strip() and "\0" not in cell)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(cells, cells), min_size=1, max_size=12),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_csv_cells_as_pythons_reader_has_them(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    end: str,
    mark: bool,
) -> None:
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("text", "note"), *rows])
    name = "data.csv" if delimiter == "," else "data.tsv"
    path = tmp_path_factory.mktemp("csv") / name
    path.write_bytes(b"\xef\xbb\xbf" * mark + out.getvalue().encode())
    corpus = read_corpus(path, metadata_columns=("note",), quote='"')
    assert [(row["text"], row["note"]) for row in corpus.rows] == rows
    assert corpus.rejects == []


def test_csv_as_pandas_and_duckdb_have_it(tmp_path: Path) -> None:
    records = [
        {"text": f'a "{n}"\r\nsecond, line\nthird é', "score": n / 7, "none": "", "ok": n % 2 == 0}
        for n in range(2000)
    ]
    path = write(tmp_path / "data.csv", as_csv(records))
    metadata = ("score:float64", "none:string", "ok:bool")
    corpus = read_corpus(path, metadata_columns=metadata)
    frame = pd.read_csv(path, keep_default_na=False)
    assert corpus.texts == frame["text"].tolist()
    np.testing.assert_array_equal(corpus.table["score"].to_numpy(), frame["score"])
    assert corpus.table["ok"].to_pylist() == frame["ok"].tolist()
    assert corpus.table["none"].to_pylist() == frame["none"].tolist()
    found = duckdb.sql(f"select text, score from read_csv('{path}', parallel=false)").fetchall()
    assert found == [(row["text"], row["score"]) for row in corpus.rows]


def test_small_csv_limits_take_whole_records(tmp_path: Path) -> None:
    many = '"has\n' + "long\n" * 30 + 'lines"'
    inside = '"begins\n' + "w" * 100 + '\nand ends"'
    quoted = '"x""' + "y" * 100 + '"'
    ends_long = '"begins\n' + "w" * 100 + '"'
    bad = [many, inside, quoted, ends_long, "z" * 100]
    lines = [line for n, one in enumerate(bad) for line in (one, f'"kept\n{n}"')]
    path = write(tmp_path / "data.csv", ["text", *lines])
    for most in (50, 90):
        corpus = read_corpus(path, max_record_bytes=most)
        assert corpus.texts == [f"kept\n{n}" for n in range(len(bad))]
        assert corpus.reasons == ["too_long"] * len(bad)
        assert [one.row_index for one in corpus.rejects] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("language", ["de", "ja", "ru", "zh"])
def test_csv_of_a_language_as_pandas_has_it(tmp_path: Path, language: str) -> None:
    pairs = list(product(FOREIGN[language], repeat=2)) * 90
    rows = [(f"{one} {n}", f'"{two}",\n{n}', n / 7) for n, (one, two) in enumerate(pairs)]
    content = io.StringIO()
    csv.writer(content).writerows([("one", "two", "score"), *rows])
    path = write(tmp_path / "pairs.csv.xz", content.getvalue())
    corpus = read_corpus(path, text_column="one", metadata_columns=("two", "score:float64"))
    frame = pd.read_csv(path, keep_default_na=False)
    assert corpus.texts == frame["one"].tolist()
    assert corpus.table["two"].to_pylist() == frame["two"].tolist()
    assert corpus.table["score"].to_pylist() == frame["score"].tolist()
    assert len(corpus.texts) == 1440


def test_jsonl_of_real_prose_as_pandas_has_it(tmp_path: Path) -> None:
    rows = [{"title": text[:30], "text": text} for text in paragraphs()]
    rows[470] = rows[994] = {"title": "", "text": " "}
    path = write(tmp_path / "docs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    corpus = read_corpus(path, text_template="{title} {text}", split_bytes=10_000)
    frame = pd.read_json(path, lines=True, dtype=False)
    texts = frame["title"] + " " + frame["text"]
    assert corpus.texts == [text for text in texts if text.strip()]
    assert len(corpus.plan.splits) > 40
    assert corpus.reasons == ["empty_text"] * sum(not text.strip() for text in texts)


def test_real_text_in_paragraphs_of_any_split(tmp_path: Path) -> None:
    path = write(tmp_path / "topics.txt", "\n \n\n".join(topics_of_python()))
    wanted = re.findall(r"^.*\S.*$(?:\n.*\S.*$)*", path.read_text(), re.MULTILINE)
    corpus = read_corpus(path, text_unit="paragraph", split_bytes=30_000)
    assert corpus.texts == wanted
    assert len(corpus.plan.splits) > 10
