"""Numbers of JSON and CSV are kept as they are written or become null; none is rounded."""

import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import corpus_config, read_corpus, read_plan, write

from embedkit.config import RecordConfig
from embedkit.corpus import text_records
from embedkit.corpus.json_values import as_text, exact_float, read_exactly
from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.rows import add_kinds, blocks_from_rows, row_metadata, value_kinds
from embedkit.records import Nulled, add_nulled

BIG = 12345678901234567890123
ODD = 9007199254740993


def nulled(corpus: Any) -> dict[str, int]:
    return {one.column: one.count for one in add_nulled(n for b in corpus.blocks for n in b.nulled)}


@pytest.mark.parametrize(
    ("values", "kind", "wanted"),
    [
        ([ODD, 0.5], "string", [str(ODD), "0.5"]),
        ([-ODD, 2, 1.25], "string", [str(-ODD), "2", "1.25"]),
        ([ODD, 1], "int64", [ODD, 1]),
        ([1 << 60, 0.5], "double", [2.0**60, 0.5]),
        ([2**63, 1], "string", [str(2**63), "1"]),
        ([2**64, -(2**63) - 1], "string", [str(2**64), str(-(2**63) - 1)]),
        ([BIG], "string", [str(BIG)]),
        ([2**63 - 1, -(2**63)], "int64", [2**63 - 1, -(2**63)]),
        ([float("nan"), 1.5, float("-inf")], "double", [float("nan"), 1.5, float("-inf")]),
        ([-0.0], "double", [-0.0]),
    ],
)
def test_numbers_of_json_get_a_type_that_holds_them(
    tmp_path: Path, values: list[Any], kind: str, wanted: list[Any]
) -> None:
    path = write(tmp_path / "a.jsonl", [json.dumps({"text": "x", "n": one}) for one in values])
    corpus = read_corpus(path, metadata_columns=("n",))
    assert dict(corpus.plan.metadata) == {"n": kind}
    assert repr(corpus.table["n"].to_pylist()) == repr(wanted)
    assert (corpus.rejects, nulled(corpus)) == ([], {})


@pytest.mark.parametrize("kind", ["int64", "float64"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_declared_numbers_are_exact_or_null(tmp_path: Path, form: str, kind: str) -> None:
    written = ["7", str(ODD), str(2**53), str(BIG), "1e400", "9007199254740993.0", "1e23", "-3"]
    lines = [f'{{"text": "t", "n": {one}}}' if form == "jsonl" else f"t,{one}" for one in written]
    path = write(tmp_path / f"a.{form}", lines if form == "jsonl" else ["text,n", *lines])
    corpus = read_corpus(path, metadata_columns=(f"n:{kind}",))
    values = corpus.table["n"].to_pylist()
    if kind == "int64":
        assert values[:4] == [7, ODD, 2**53, None]
    else:
        assert values == [7, None, 2**53, None, None, None, 1e23, -3]
    assert nulled(corpus) == {"n": values.count(None)}
    assert corpus.rejects == []


@pytest.mark.parametrize(
    "number",
    ["1.10", "9.90", "1E5", str(BIG), f"-{BIG}", "1e400", "-0.0", "NaN", "Infinity",
     "0.12345678901234567890", "18446744073709551615", "9007199254740993.0"],
)  # fmt: skip
def test_text_takes_numbers_as_they_are_written(tmp_path: Path, number: str) -> None:
    line = f'{{"n": {number}, "in": {{"list": [{number}, {number}]}}}}'
    path = write(tmp_path / "a.jsonl", [line])
    corpus = read_corpus(path, text_template="n={n}", metadata_columns=("n:string", "in:string"))
    [row] = corpus.rows
    assert row["text"] == f"n={number}"
    assert row["n"] == number
    assert row["in"] == f'{{"list":[{number},{number}]}}'


def test_ids_of_any_size_are_their_digits(tmp_path: Path) -> None:
    ids = [BIG, BIG + 1, -BIG, 2**64, 2**64 + 1, 2**63]
    path = write(tmp_path / "a.jsonl", [json.dumps({"id": one, "text": "x"}) for one in ids])
    assert read_corpus(path, id_column="id").ids == list(map(str, ids))


@pytest.mark.parametrize("number", ["1.0", "1e2", "NaN", "Infinity", "1e400", "9" * 5000])
def test_an_id_that_is_no_whole_number_is_a_reject(tmp_path: Path, number: str) -> None:
    path = write(
        tmp_path / "a.jsonl", ['{"id": 1, "text": "x"}', f'{{"id": {number}, "text": ""}}']
    )
    corpus = read_corpus(path, id_column="id")
    assert corpus.ids == ["1"]
    assert corpus.reasons == ["wrong_type"]


def test_what_pythons_parser_reads_costs_no_document(tmp_path: Path) -> None:
    values = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"\\ud800"', '{"\\ud800": 1}',
              '"\\udc00x"', str(BIG), "[" * 200 + "]" * 200]  # fmt: skip
    for value in values:
        assert json.loads(value) is not None
    lines = [f'{{"text": "good", "other": {one}}}' for one in values]
    path = write(tmp_path / "a.jsonl", lines)
    assert read_corpus(path).texts == ["good"] * len(values)
    corpus = read_corpus(path, metadata_columns=("other:string",))
    assert corpus.texts == ["good"] * len(values)
    assert corpus.table["other"].to_pylist() == [
        *values[:5], None, None, None, str(BIG), "[" * 200 + "]" * 200
    ]  # fmt: skip
    assert nulled(corpus) == {"other": 3}


def test_a_type_is_told_from_the_end_and_from_other_files_as_well(tmp_path: Path) -> None:
    rows = [{"text": f"text {n} " + "x" * 200, "price": n, "code": n} for n in range(5000)]
    rows[4990]["price"] = 9.99
    write(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    write(tmp_path / "b.jsonl.gz", [json.dumps({"text": "t", "price": 1, "code": "A-1"})])
    corpus = read_corpus(tmp_path, metadata_columns=("price", "code"))
    assert dict(corpus.plan.metadata) == {"price": "double", "code": "string"}
    assert nulled(corpus) == {}


def test_nulled_values_are_of_the_block_that_has_the_document(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t{n}", "n": n} for n in range(20)]
    for place, value in ((3, "x"), (4, 0.5), (11, [])):
        rows[place]["n"] = value
    rows[12] = {"text": "", "n": "a reject, so not counted"}
    path = write(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    corpus = read_corpus(path, metadata_columns=("n:int64",), block_rows=4)
    assert [block.nulled for block in corpus.blocks] == [
        (Nulled("n", 1, "str 'x' in a.jsonl, expected int64"),),
        (Nulled("n", 1, "float 0.5 in a.jsonl, expected int64"),),
        (Nulled("n", 1, "list [] in a.jsonl, expected int64"),),
        (),
        (),
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([ODD, 0.5], "string"), ([2**64, 1], "string"), ([1, 0.5], "double"), ([ODD], "int64")],
)
def test_rows_get_types_that_hold_their_numbers(values: list[Any], kind: str) -> None:
    config = RecordConfig()
    kinds: Any = {}
    for value in values:
        kinds = add_kinds(kinds, value_kinds({"id": "a", "text": "t", "n": value}, config))
    metadata = row_metadata(kinds, config)
    assert dict(metadata) == {"n": kind}
    rows = [{"id": f"{n}", "text": "t", "n": one} for n, one in enumerate(values)]
    [block] = blocks_from_rows("00000", rows, config, metadata)
    found = block.rows.column("n").to_pylist()
    assert found == ([str(one) for one in values] if kind == "string" else values)


@given(st.decimals(allow_nan=False, allow_infinity=False).map(str))
def test_whole_numbers_never_become_others(text: str) -> None:
    try:
        value = exact_float(text)
    except ValueError:
        assert not Decimal(text) == Decimal(float(text)) or abs(float(text)) == float("inf")
        return
    if abs(value) >= 2**53 and "e" not in text.lower():
        assert Decimal(value) == Decimal(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3
    ),
)  # fmt: skip


@given(JSON)
def test_json_text_reads_as_what_it_was(value: Any) -> None:
    line = json.dumps([value]).encode()
    written = as_text(read_exactly(line))
    assert json.loads(written) == [value]
    assert written == json.dumps([value], ensure_ascii=False, separators=(",", ":"))


NESTED = [
    {"doc": {"body": "one", "meta": {"n": 1, "at.x": "dot"}}, "key": {"id": 7}},
    {"doc": {"body": "two", "meta": {"n": BIG}}, "key": {"id": 8}, "doc.body": "exact"},
    {"doc": None, "key": {"id": 9}},
    {"doc": {"body": "three", "meta": None}, "key": {"id": 10}},
    {"doc": "no mapping", "key": {"id": 11}},
]


def test_columns_within_columns_of_json(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [json.dumps(row) for row in NESTED])
    corpus = read_corpus(
        path,
        text_column="doc.body",
        id_column="key.id",
        metadata_columns=("doc.meta.n", "doc.meta.at.x", "key.id:int64"),
    )
    assert corpus.texts == ["one", "exact", "three"]
    assert corpus.ids == ["7", "8", "10"]
    assert corpus.table["doc.meta.n"].to_pylist() == ["1", str(BIG), None]
    assert corpus.table["doc.meta.at.x"].to_pylist() == ["dot", None, None]
    assert corpus.table["key.id"].to_pylist() == [7, 8, 10]
    assert corpus.reasons == ["missing_column", "missing_column"]
    corpus = read_corpus(path, text_template="{doc.body} of {key.id}{doc.none?}")
    assert corpus.texts == ["one of 7", "exact of 8", " of 9", "three of 10", " of 11"]


def test_columns_within_columns_of_rows() -> None:
    config = RecordConfig(text_column="doc.body", metadata_columns=("doc.n:int64",))
    rows = [{"id": "a", "doc": {"body": "x", "n": 1}}, {"id": "b", "doc": {"body": "y", "n": 2}}]
    [block] = blocks_from_rows("00000", rows, config, (("doc.n", "int64"),))
    assert block.rows.column("text").to_pylist() == ["x", "y"]
    assert block.rows.column("doc.n").to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text_column": "txet"}, "text column 'txet' (is 'text' meant?); mend"),
        ({"text_column": "Text "}, "text column 'Text ' (is 'text' meant?); mend"),
        ({"text_column": "doc.bodi"}, "text column 'doc.bodi' (is 'doc.body' meant?); mend"),
        ({"id_column": "idd"}, "id column 'idd' (is 'id' meant?); mend"),
        (
            {"text_template": "{titel}: {text}"},
            "'titel' (is 'title' meant?); mend the name, or write {titel?}",
        ),
        ({"metadata_columns": ("strs",)}, "metadata column 'strs' (is 'stars' meant?); mend"),
        ({"text_column": "quite other"}, "'quite other'; mend the name; columns are id, title"),
    ],
)
def test_a_column_that_no_first_record_has_is_refused_with_the_nearest(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    record = {"id": 1, "title": "t", "text": "x", "stars": 1, "doc": {"body": "y"}}
    path = write(tmp_path / "a.jsonl", [json.dumps(record)] * 3)
    with pytest.raises(Exception, match=r"a\.jsonl: none of its first 3 records has") as found:
        plan_corpus(corpus_config(path, **settings))
    assert said in str(found.value)


def test_a_column_that_is_null_in_the_first_records_is_there(tmp_path: Path) -> None:
    rows = [{"text": None, "n": None}] * 3 + [{"text": "late", "n": "x"}]
    path = write(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    assert read_corpus(path, metadata_columns=("n",)).texts == ["late"]
    assert pa.types.is_string(
        read_corpus(path, metadata_columns=("n",)).table.schema.field("n").type
    )


def test_of_a_column_that_a_record_has_twice_the_last_counts_as_in_pythons_parser(
    tmp_path: Path,
) -> None:
    lines = [
        '{"text": "two", "text": "too"}',
        '{"text": "three", "n": 1, "n": 2}',
        '{"text": "five", "n": NaN, "n": 5}',
        '{"doc": {"n": 1}, "text": "six", "doc": {"n": 2}}',
        '{"text": "seven", "n": 9007199254740993, "n": 9007199254740995}',
    ]
    wanted = [json.loads(line) for line in lines]
    path = write(tmp_path / "a.jsonl", lines)
    corpus = read_corpus(path, metadata_columns=("n", "doc.n"))
    assert corpus.texts == [one["text"] for one in wanted]
    assert corpus.table["n"].to_pylist() == [one.get("n") for one in wanted]
    assert corpus.table["doc.n"].to_pylist() == [one.get("doc", {}).get("n") for one in wanted]


@pytest.mark.parametrize("value", [[[]] * 200_000, [{}] * 200_000, {"a": [[None]] * 100_000}])
@pytest.mark.few(1)
def test_a_large_nested_value_is_held_once_and_not_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    text = json.dumps(value, separators=(",", ":"))
    path = write(tmp_path / "a.jsonl", [f'{{"text": "x", "v": {text}}}'])
    held = []
    read = text_records.read_exactly

    def noted(line: bytes) -> Any:
        held.append(tracemalloc.get_traced_memory()[0])
        return read(line)

    monkeypatch.setattr(text_records, "read_exactly", noted)
    config = corpus_config(path, metadata_columns=("v:string",))
    plan = plan_corpus(config)
    tracemalloc.start()
    try:
        corpus = read_plan(plan, config)
        assert max(held) < 5 << 20
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert as_text(value) == text
        assert tracemalloc.get_traced_memory()[1] - before < 5 << 20
    finally:
        tracemalloc.stop()
    assert corpus.table["v"].to_pylist() == [text]
