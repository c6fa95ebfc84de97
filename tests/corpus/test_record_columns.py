"""Columns of a record: its text, its id, its metadata and their types."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reading import corpus_config, read_corpus, write

from embedkit.corpus import formats, parts, sampling
from embedkit.corpus.columns import Columns, make_texts
from embedkit.corpus.documents import Documents, Records
from embedkit.corpus.metadata_types import parse_type, type_name
from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.sampling import estimate
from embedkit.errors import ConfigError, InputError
from embedkit.records import Nulled, add_nulled


def jsonl(path: Path, *records: dict[str, Any]) -> Path:
    return write(path, [json.dumps(record) for record in records])


RECORD = {"title": "Ein Titel", "body": "body {x}", "n": 7, "ok": True, "score": 1.5, "none": None}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{title}", "Ein Titel"),
        ("{title}. {body}", "Ein Titel. body {x}"),
        ("{title}\n{title}", "Ein Titel\nEin Titel"),
        ("{{{title}}} ", "{Ein Titel} "),
        ("n={n} ok={ok} {score}", "n=7 ok=true 1.5"),
    ],
)
def test_templates(tmp_path: Path, template: str, wanted: str) -> None:
    jsonl(tmp_path / "a.jsonl", RECORD)
    pq.write_table(pa.Table.from_pylist([RECORD]), tmp_path / "b.parquet")
    assert read_corpus(tmp_path, text_template=template).texts == [wanted, wanted]


def test_templates_of_csv_take_the_cells_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["n,ok", "007,TRUE", ",no", "8", '""'])
    corpus = read_corpus(path, text_template="{n}/{ok}")
    assert corpus.texts == ["007/TRUE", "/no", "8/"]
    assert corpus.reasons == ["empty_text"]


def test_a_null_in_a_template_is_nothing(tmp_path: Path) -> None:
    records = [
        {"title": "T", "body": "B"},
        {"title": None, "body": "only a body"},
        {"title": "only a title"},
        {"title": 0, "body": None},
        {"title": "", "body": " "},
        {"title": None, "body": None},
        {"other": "x"},
    ]
    jsonl(tmp_path / "a.jsonl", *records)
    pq.write_table(
        pa.table({name: [row.get(name) for row in records[:3]] for name in ("title", "body")}),
        tmp_path / "b.parquet",
    )
    corpus = read_corpus(tmp_path, text_template="{title}. {body}")
    texts = ["T. B", ". only a body", "only a title. ", "0. "]
    assert corpus.texts == [*texts, *texts[:3]]
    assert corpus.reasons == ["empty_text", "missing_column", "missing_column"]
    assert "'title', 'body'" in corpus.rejects[1].detail


def test_an_optional_column_of_a_template_may_be_in_no_record(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"title": "json"})
    write(tmp_path / "b.csv", ["title,x", "csv,1"])
    pq.write_table(pa.table({"title": ["parquet"]}), tmp_path / "c.parquet")
    corpus = read_corpus(tmp_path, text_template="{gone?}{title}{gone.too?}!")
    assert corpus.texts == ["json!", "csv!", "parquet!"]
    for name in ("a.jsonl", "b.csv", "c.parquet"):
        with pytest.raises(InputError, match="'gone'"):
            plan_corpus(corpus_config(tmp_path / name, text_template="{gone} {title}"))


@pytest.mark.parametrize(
    ("template", "value", "fits"),
    [
        ("{a}" * 200, "x" * 5, True),
        ("{a}" * 200, "x" * 6, False),
        ("{a} {b}" * 100, "words ", False),
        ("{a}" + "-" * 1000, "x", False),
        ("{a}" * 500, 123, False),
        ("{a}" * 333, 123, True),
    ],
)
@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_a_text_that_a_template_makes_too_long_is_never_made(
    tmp_path: Path, template: str, value: object, fits: bool, name: str
) -> None:
    rows = [{"a": "1", "b": "c"}, {"a": value, "b": "long"}, {"a": "2", "b": "d"}]
    if isinstance(value, int):
        rows = [row | {"a": int(str(row["a"]))} for row in rows]
    if name == "in.jsonl":
        jsonl(tmp_path / name, *rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    corpus = read_corpus(tmp_path / name, text_template=template, max_record_bytes=1000)
    made = [template.format(**row) for row in rows]
    assert corpus.texts == [text for text in made if len(text) <= 1000]
    assert corpus.reasons == ["too_long"] * sum(len(text) > 1000 for text in made)
    assert (made[1] in corpus.texts) == fits

    values = {name: [row[name] for row in rows] for name in ("a", "b")}
    columns = Columns.of(corpus_config("x", text_template=template))
    assert max(map(len, make_texts(values, columns, {}, 1000))) <= 1000


def test_the_texts_of_a_template_are_made_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_MOST_CHARS", 1000)
    lines = [json.dumps({"a": f"{n:02d}", "m": n}) if n % 7 else "{" for n in range(100)]
    path = write(tmp_path / "a.jsonl", lines)
    config = corpus_config(path, text_template="{a}" * 100, metadata_columns=("m",))
    wanted = [n for n in range(100) if n % 7]
    batches = []
    make = formats.make_documents

    def noted(records: Records, **options: Any) -> Documents:
        batches.append(make(records, **options))
        return batches[-1]

    monkeypatch.setattr(formats, "make_documents", noted)
    corpus = read_corpus(path, text_template="{a}" * 100, metadata_columns=("m",))
    assert corpus.texts == [f"{n:02d}" * 100 for n in wanted]
    assert corpus.table["m"].to_pylist() == wanted
    assert [one.line for one in corpus.rejects] == [n + 1 for n in range(100) if n % 7 == 0]
    assert max(sum(map(len, one.rows["text"].to_pylist())) for one in batches) <= 1000
    found = estimate(plan_corpus(config), config, lambda texts, _: list(map(len, texts)))
    assert (found.records, found.documents, found.text_bytes) == (100, 85, 85 * 200)
    monkeypatch.setattr(sampling, "_MOST_TEXT_BYTES", 2000)
    counted: list[int] = []

    def count(texts: Sequence[str], _: NDArray[np.float64]) -> list[int]:
        counted.extend(map(len, texts))
        return counted

    found = estimate(plan_corpus(config), config, count)
    assert sum(counted) <= 3000
    assert (found.records, found.documents) == (100, pytest.approx(85, abs=10))


@pytest.mark.parametrize(
    "template",
    ["", "plain", "{", "}", "{}", "{?}", "{a[0]}", "{a!r}", "{a:>10}", "{a:{b}}"],
)
def test_templates_that_are_more_than_names_are_refused(tmp_path: Path, template: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"a": "x", "text": "y", "": "z", "0": "w"})
    with pytest.raises(ConfigError, match="text_template") as error:
        plan_corpus(corpus_config(path, text_template=template))
    assert "\n" not in str(error.value)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_literals_of_a_template_come_out_as_they_are(literal: str) -> None:
    escaped = literal.replace("{", "{{").replace("}", "}}")
    columns = Columns.of(corpus_config("x", text_template=escaped + "{a}"))
    assert "".join(text for text, _ in columns.text) == literal
    assert columns.text_names == ("a",)


def test_ids_of_numbers_and_strings(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        *({"id": one, "text": "x"} for one in (1, "two", -3, "ü 漢", 2**63, "01")),
    )
    assert read_corpus(path, id_column="id").ids == [
        "1", "two", "-3", "ü 漢", "9223372036854775808", "01",
    ]  # fmt: skip


def test_types_are_told_from_json(tmp_path: Path) -> None:
    records = [
        {"text": "a", "i": 1, "f": 1, "b": True, "s": "x", "l": [1, "ü"], "m": 1, "t": None},
        {
            "text": "b",
            "i": -2,
            "f": 2.5,
            "b": False,
            "s": "",
            "l": {"k": None},
            "m": "x",
            "t": None,
        },
        {"text": "c", "i": None, "f": None, "b": None, "s": None, "l": None, "m": True, "t": 2},
    ]
    path = jsonl(tmp_path / "a.jsonl", *records)
    corpus = read_corpus(path, metadata_columns=tuple("ifbslmt"))
    assert dict(corpus.plan.metadata) == {
        "i": "int64", "f": "double", "b": "bool", "s": "string", "l": "string", "m": "string",
        "t": "int64",
    }  # fmt: skip
    table = corpus.table
    assert [table.schema.field(name).type for name in "ifb"] == [
        pa.int64(), pa.float64(), pa.bool_(),
    ]  # fmt: skip
    assert table["i"].to_pylist() == [1, -2, None]
    assert table["f"].to_pylist() == [1.0, 2.5, None]
    assert table["b"].to_pylist() == [True, False, None]
    assert table["s"].to_pylist() == ["x", "", None]
    assert table["l"].to_pylist() == ['[1,"ü"]', '{"k":null}', None]
    assert table["m"].to_pylist() == ["1", "x", "true"]
    assert corpus.rejects == []


def test_types_hold_behind_the_sample(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "n": n} for n in range(1500)]
    rows[1200]["n"] = 1.5
    rows[1300]["n"] = "many"
    rows[1400]["n"] = 2**63
    rows[1450]["n"] = True
    path = jsonl(tmp_path / "a.jsonl", *rows)
    corpus = read_corpus(path, metadata_columns=("n",), split_bytes=3000)
    assert corpus.rejects == []
    assert corpus.table["n"].to_pylist() == [
        None if n in (1200, 1300, 1400, 1450) else n for n in range(1500)
    ]
    [nulled] = add_nulled(one for block in corpus.blocks for one in block.nulled)
    assert nulled == Nulled("n", 4, "float 1.5 in a.jsonl, expected int64")
    corpus = read_corpus(path, metadata_columns=("n:string",))
    assert corpus.table["n"].to_pylist() == [
        "true" if row["n"] is True else str(row["n"]) for row in rows
    ]
    corpus = read_corpus(path, metadata_columns=("n:float64",), chunker=None, block_rows=100)
    assert [block.nulled for block in corpus.blocks if block.nulled] == [
        (Nulled("n", 1, f"{value} in a.jsonl, expected double"),)
        for value in ("str 'many'", "bool True")
    ]


def test_a_column_that_no_record_has_stops_the_plan(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", RECORD, RECORD)
    with pytest.raises(InputError, match=r"none of its first 2 records has .* 'gone'.*gone:string"):
        plan_corpus(corpus_config(path, text_column="title", metadata_columns=("gone",)))
    corpus = read_corpus(path, text_column="title", metadata_columns=("gone:string",))
    assert corpus.table["gone"].to_pylist() == [None, None]


@pytest.mark.parametrize("kind", ["int64", "float64", "bool"])
def test_csv_values_are_parsed_as_duckdb_does(tmp_path: Path, kind: str) -> None:
    cells = {
        "int64": ["0", "-7", "+3", "", "9223372036854775807"],
        "float64": ["0", "-7.5", "1e10", "", ".5", "inf"],
        "bool": ["true", "false", "True", "", "FALSE", "1", "0"],
    }[kind]
    path = write(tmp_path / "a.csv", ["text,v", *(f"t{n},{cell}" for n, cell in enumerate(cells))])
    corpus = read_corpus(path, metadata_columns=(f"v:{kind}",))
    wanted = [
        None if cell == "" else duckdb.execute(
            f"select cast(? as {kind.replace('float64', 'double')})", [cell]
        ).fetchall()[0][0]
        for cell in cells
    ]  # fmt: skip
    assert corpus.table["v"].to_pylist() == wanted
    assert corpus.rejects == []


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("int64", ["1.0", "1e3", "1_000", " 1", "x", "9223372036854775808", "\u0661"]),
        ("float64", ["1,5", "1_0", "x", "--1"]),
        ("bool", ["yes", "2", "t"]),
    ],
)
def test_csv_values_of_another_type_become_null(
    tmp_path: Path, kind: str, cells: list[str]
) -> None:
    rows = [f't{n},"{cell}"' for n, cell in enumerate(cells)]
    path = write(tmp_path / "a.csv", ["text,v", "good,", *rows])
    corpus = read_corpus(path, metadata_columns=(f"v:{kind}",))
    assert corpus.rejects == []
    assert corpus.table["v"].to_pylist() == [None] * (len(cells) + 1)
    [nulled] = corpus.blocks[0].nulled
    assert (nulled.column, nulled.count) == ("v", len(cells))


def test_names_with_colons_and_names_of_embedkit(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": "x", "dc:title": "t", "dc:date": 5})
    corpus = read_corpus(path, metadata_columns=("dc:title:string", "dc:date:int64"))
    assert corpus.table["dc:title"].to_pylist() == ["t"]
    assert corpus.table["dc:date"].to_pylist() == [5]
    for taken in ("id", "text:string", "embedding", "n_tokens:int64"):
        with pytest.raises(ConfigError, match="is a column of embedkit's own"):
            corpus_config(path, metadata_columns=(taken,))
    with pytest.raises(ConfigError, match="given twice"):
        corpus_config(path, metadata_columns=("n", "n:string"))


def test_one_column_may_be_text_id_and_metadata(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"name": "x"}, {"name": "y"})
    corpus = read_corpus(
        path, text_column="name", id_column="name", metadata_columns=("name:string",)
    )
    assert corpus.ids == corpus.texts == corpus.table["name"].to_pylist() == ["x", "y"]


def test_csv_and_json_and_parquet_share_declared_types(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"text": "a", "n": 1})
    write(tmp_path / "b.csv", ["n,text", "2,b"])
    pq.write_table(
        pa.table({"text": ["c"], "n": pa.array([3], pa.int64())}), tmp_path / "c.parquet"
    )
    corpus = read_corpus(tmp_path, metadata_columns=("n",))
    assert corpus.table["n"].to_pylist() == [1, 2, 3]
    corpus = read_corpus(tmp_path, metadata_columns=("n:string",))
    assert corpus.table["n"].to_pylist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.int32(), pa.date64(), pa.time64("ns"), pa.duration("ms"), pa.timestamp("ns"),
        pa.timestamp("s", "Europe/Berlin"), pa.decimal128(10, -2), pa.decimal256(40, 3),
        pa.list_(pa.list_(pa.timestamp("us", "+02:00"))),
    ],
)  # fmt: skip
def test_names_of_types_name_them(kind: pa.DataType) -> None:
    assert parse_type(type_name(kind)) == kind
