"""Parquet files: row groups, types, damage, and values that stand in many rows."""

import datetime
import decimal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from processes import MEGABYTES
from reading import corpus_config, read_corpus

from embedkit.corpus import arrow_values, parquet_records
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import ConfigError, InputError
from embedkit.records import Nulled, add_nulled


def write_table(path: Path, columns: dict[str, Any], group: int = 10, **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, group, **options)
    return path


@pytest.mark.parametrize("split_bytes", [1, 700, 5000, 1 << 30])
def test_row_groups_are_never_parted_nor_lost(tmp_path: Path, split_bytes: int) -> None:
    texts = [f"text {n} " + "x" * (n % 50) for n in range(1003)]
    other = ["y" * 1000] * 1003
    path = write_table(tmp_path / "a.parquet", {"text": texts, "other": other}, 50)
    corpus = read_corpus(path, split_bytes=split_bytes)
    assert corpus.texts == texts
    ranges = [piece for split in corpus.plan.splits for piece in split.ranges]
    assert [piece.start for piece in ranges] == [0, *(piece.end for piece in ranges[:-1])]
    assert ranges[-1].end == 21
    assert sum(piece.rows for piece in ranges) == 1003
    if split_bytes in (1, 1 << 30):
        assert len(ranges) == (21 if split_bytes == 1 else 1)
    # The column that is not read does not count.
    assert sum(piece.stored for piece in ranges) < path.stat().st_size


def test_files_without_rows_or_groups(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string())])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    with pq.ParquetWriter(tmp_path / "b.parquet", schema):
        pass
    with pq.ParquetWriter(tmp_path / "c.parquet", schema) as writer:
        writer.write_table(pa.table({"text": ["one"]}))
        writer.write_table(schema.empty_table(), row_group_size=1)
        writer.write_table(pa.table({"text": ["two"]}))
    corpus = read_corpus(tmp_path)
    assert corpus.texts == ["one", "two"]


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_every_kind_of_string_is_text_and_id(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["one", "zwei ü", "三"]).cast(kind)
    path = write_table(tmp_path / "a.parquet", {"text": texts, "key": texts})
    corpus = read_corpus(path, id_column="key", metadata_columns=("key",))
    assert corpus.texts == corpus.ids == corpus.table["key"].to_pylist() == ["one", "zwei ü", "三"]
    assert corpus.table.schema.field("key").type == pa.string()


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.int64()])
def test_whole_numbers_are_ids(tmp_path: Path, kind: pa.DataType) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": ["a", "b"], "n": pa.array([1, 120], kind)})
    assert read_corpus(path, id_column="n").ids == ["1", "120"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text_column": "n"}, "text column 'n' is of type int64.*--text-template '{n}'"),
        ({"text_column": "pair"}, "text column 'pair' is of type struct"),
        ({"id_column": "score"}, "id column 'score' is of type double"),
        ({"metadata_columns": ("pair",)}, "metadata column 'pair' is of type struct.*pair:string"),
        ({"metadata_columns": ("gone",)}, "no column 'gone'"),
        ({"text_template": "{text} {gone}"}, "no column 'gone'"),
        ({"id_column": "gone"}, "no column 'gone'"),
    ],
)
def test_columns_of_no_use_stop_the_plan(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    columns = {"text": ["x"], "n": [1], "data": [b"x"], "score": [0.5], "pair": [{"a": 1}]}
    path = write_table(tmp_path / "a.parquet", columns)
    with pytest.raises(InputError, match=said) as error:
        plan_corpus(corpus_config(path, **settings))
    assert str(path) in str(error.value)


METADATA = {
    "flag": pa.array([True, None, False]),
    "small": pa.array([1, None, -3], pa.int8()),
    "big": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "half": pa.array(np.array([1, 2, 3], np.float16)),
    "real": pa.array([0.1, None, float("nan")], pa.float64()),
    "day": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1900, 1, 1)]),
    "time": pa.array([1, None, 3], pa.timestamp("us", "UTC")),
    "amount": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")]),
    "raw": pa.array([b"\xff\0", None, b""]),
    "tags": pa.array([["a", "ü"], None, []]),
    "nested": pa.array([[[1.5], []], None, [None]], pa.list_(pa.list_(pa.float32()))),
    "label": pa.array(["a", None, "b"]).dictionary_encode(),
    "long": pa.array(["a", None, "b"], pa.large_string()),
}


def test_metadata_keeps_its_types_and_values(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": ["x", "y", "z"], **METADATA})
    corpus = read_corpus(path, metadata_columns=tuple(METADATA), block_rows=2)
    stored = pq.read_table(path)
    for name in METADATA:
        column = corpus.table[name]
        wanted = stored[name].combine_chunks()
        kind = {"label": pa.string(), "long": pa.string()}.get(name, wanted.type)
        assert column.type == kind, name
        assert repr(column.to_pylist()) == repr(wanted.to_pylist()), name


def test_metadata_declared_otherwise_is_cast_value_by_value(tmp_path: Path) -> None:
    columns = {
        "text": [f"t{n}" for n in range(4)],
        "digits": ["1", "2x", "3", None],
        "whole": [1.0, 2.0, 2.5, None],
        "pair": [{"a": 1}, {"a": None}, None, {"a": 3}],
    }
    path = write_table(tmp_path / "a.parquet", columns)
    corpus = read_corpus(path, metadata_columns=("digits:int64", "pair:string"))
    assert corpus.table["digits"].to_pylist() == [1, None, 3, None]
    assert corpus.table["pair"].to_pylist() == ['{"a":1}', '{"a":null}', None, '{"a":3}']
    assert corpus.rejects == []
    [nulled] = corpus.blocks[0].nulled
    assert nulled == Nulled("digits", 1, "str '2x' in a.parquet, expected int64")
    corpus = read_corpus(path, metadata_columns=("whole:int64",))
    assert corpus.table["whole"].to_pylist() == [1, 2, None, None]
    [nulled] = corpus.blocks[0].nulled
    assert nulled.count == 1


def test_files_must_agree_on_metadata(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"text": ["x"], "n": [1]})
    write_table(tmp_path / "b.parquet", {"text": ["y"], "n": [1.5]})
    with pytest.raises(InputError, match=r"'n' is of type int64 in .*a\.parquet .*double in .*b\."):
        plan_corpus(corpus_config(tmp_path, metadata_columns=("n",)))
    corpus = read_corpus(tmp_path, metadata_columns=("n:float64",))
    assert corpus.table["n"].to_pylist() == [1.0, 1.5]


def test_bad_rows_cost_themselves_alone(tmp_path: Path) -> None:
    texts = ["good", None, "", " ", "a\0b", "x" * 101, "last"]
    path = write_table(tmp_path / "a.parquet", {"text": texts}, 3)
    corpus = read_corpus(path, max_record_bytes=100)
    assert corpus.texts == ["good", "last"]
    assert [(one.row_index, one.reason) for one in corpus.rejects] == [
        (1, "missing_column"),
        (2, "empty_text"),
        (3, "empty_text"),
        (4, "nul_byte"),
        (5, "too_long"),
    ]


def not_utf8(good: str, bad: bytes) -> pa.Array:
    """The strings good, bad, good."""
    data = pa.array([good.encode(), bad, good.encode()])
    return pa.Array.from_buffers(pa.string(), 3, data.buffers())


@pytest.mark.parametrize("column", ["text", "key", "note", "tags"])
def test_strings_that_are_not_utf8(tmp_path: Path, column: str) -> None:
    bad = not_utf8("same", b"caf\xe9")
    columns = {
        "text": pa.array(["one", "two", "three"]),
        "key": pa.array(["1", "2", "3"]),
        "note": pa.array(["a", "b", "c"]),
        "tags": pa.array([["a"], ["b"], ["c"]]),
    }
    if column == "key":
        bad = pa.concat_arrays([bad.slice(0, 2), pa.array(["3"])])
    columns[column] = pa.ListArray.from_arrays([0, 1, 2, 3], bad) if column == "tags" else bad
    path = write_table(tmp_path / "a.parquet", columns)
    corpus = read_corpus(path, id_column="key", metadata_columns=("note", "tags"))
    if column in ("text", "key"):
        assert corpus.table["row_index"].to_pylist() == [0, 2]
        assert [(one.row_index, one.reason) for one in corpus.rejects] == [(1, "invalid_utf8")]
    else:
        assert corpus.rejects == []
        assert corpus.table[column].to_pylist()[1] is None
        assert [(one.column, one.count) for one in corpus.blocks[0].nulled] == [(column, 1)]


@pytest.mark.parametrize("checksum", [True, False])
def test_a_damaged_row_group_costs_itself_alone(tmp_path: Path, checksum: bool) -> None:
    texts = [f"{n * n * 0x9E3779B97F4A7C15:x}" * 5 for n in range(9000)]
    path = write_table(
        tmp_path / "a.parquet",
        {"text": texts},
        3000,
        compression="snappy",
        use_dictionary=False,
        data_page_size=20_000,
        write_batch_size=100,
        write_page_checksum=checksum,
    )
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    for place in range(middle, middle + 2000):
        data[place] ^= 0xA5
    path.write_bytes(data)
    corpus = read_corpus(path, split_bytes=1)
    assert corpus.texts[:3000] == texts[:3000]
    assert corpus.texts[-3000:] == texts[-3000:]
    [reject] = [one for one in corpus.rejects if one.reason == "damaged_file"]
    assert "row group 1 cannot be read" in reject.detail
    if checksum:
        # What was read before the damage is kept.
        before = reject.row_index - 3000
        assert 0 < before < 3000
        assert corpus.texts == texts[: reject.row_index] + texts[6000:]


def test_a_footer_whose_row_groups_are_not_all_of_the_file_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": ["a text"] * 30}, 20)
    data = path.read_bytes()
    # Thrift's third field, a number of 64 bits, and the list of row groups behind it.
    assert data.count(b"\x16\x3c\x19") == 1
    path.write_bytes(data.replace(b"\x16\x3c\x19", b"\x16\x3e\x19"))
    assert pq.ParquetFile(path).metadata.num_rows == 31
    with pytest.raises(
        InputError, match=r"a\.parquet: its footer is damaged: it says 31 rows, but"
    ):
        read_corpus(path)


REPEATED = f"""
{MEGABYTES}
import sys
from embedkit.config import CorpusConfig
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import plan_corpus
config = CorpusConfig(inputs=(sys.argv[1],))
before = megabytes("VmRSS")
plan = plan_corpus(config)
rows = sum(b.rows.num_rows for s in plan.splits for b in read_split(s, plan, config))
print(rows, megabytes("VmHWM") - before)
"""


def test_a_value_that_stands_in_every_row_does_not_fill_memory(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": ["x" * 200_000] * 2500}, 2500)
    _assert_that_reading_takes_little(path)


def test_a_value_of_which_each_row_stores_the_difference_does_not_either(tmp_path: Path) -> None:
    columns = {"text": ["x" * 3_000_000] * 256}
    encoding = {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}
    path = write_table(tmp_path / "a.parquet", columns, 256, compression="zstd", **encoding)
    _assert_that_reading_takes_little(path, 256, 600)


def _assert_that_reading_takes_little(path: Path, count: int = 2500, most: int = 300) -> None:
    assert path.stat().st_size < 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", REPEATED, str(path)], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    assert rows == count
    assert grown < most


def test_duckdb_has_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    duckdb.sql(
        "copy (select 'text ' || i as text, i % 7 as k, i * 0.5::double as s "
        f"from range(5000) t(i)) to '{path}' (format parquet, row_group_size 2048)"
    )
    corpus = read_corpus(path, split_bytes=1000, metadata_columns=("k", "s"))
    found = duckdb.sql(f"select text, k, s from '{path}'").fetchall()
    assert [(row["text"], row["k"], row["s"]) for row in corpus.rows] == found


def test_declared_types_are_checked() -> None:
    with pytest.raises(ConfigError, match="'n:int7' has the type 'int7'"):
        plan_corpus(corpus_config(__file__, format="jsonl", metadata_columns=("n:int7",)))


LONG = "river stone " * 30_000


def shared(values: list[Any], rows: int) -> pa.Array:
    places = pa.array([n % len(values) for n in range(rows)], pa.int32())
    return pa.DictionaryArray.from_arrays(places, pa.array(values))


def test_lists_with_more_members_than_can_be_unpacked_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_records, "_MOST_MEMBERS", 1 << 16)
    lists = pa.array([np.zeros(1 << 17, np.int8), []])
    path = write_table(tmp_path / "a.parquet", {"text": ["a", "b"], "v": lists})
    assert path.stat().st_size < 2000
    assert read_corpus(path).texts == ["a", "b"]
    with pytest.raises(InputError, match=r"v\.list\.element have 131,073 members in the 2 rows"):
        read_corpus(path, metadata_columns=("v:string",))


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[("k", "x" * 100)] * 10, [], None], pa.map_(pa.string(), pa.string())),
        pa.array([[None] * 1010, [], None], pa.list_(pa.null())),
    ],
    ids=["map", "nulls"],
)
def test_a_large_value_does_not_hide_among_small_ones(values: pa.Array) -> None:
    assert arrow_values.row_bytes(values).tolist() == [1010, 0, 0]
    assert arrow_values.row_bytes(values.slice(1)).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["text", "metadata", "list", "struct", "binary"])
def test_a_dictionarys_value_is_measured_before_it_is_spread(tmp_path: Path, kind: str) -> None:
    values = [LONG.encode() if kind == "binary" else LONG]
    column = shared(values, 600)
    columns: dict[str, Any] = {"text": [f"t{n}" for n in range(600)], "v": column}
    settings: dict[str, Any] = {"metadata_columns": ("v",)}
    if kind in ("text", "binary"):
        settings = {"text_column": "v"}
    elif kind == "list":
        columns["v"] = pa.ListArray.from_arrays(pa.array(range(601), pa.int32()), column)
    elif kind == "struct":
        columns["v"] = pa.StructArray.from_arrays([column], ["in"])
        settings = {"metadata_columns": ("v.in",)}
    path = write_table(
        tmp_path / "a.parquet", columns, 600, dictionary_pagesize_limit=1 << 30, store_schema=False
    )
    before = pa.default_memory_pool().max_memory()
    corpus = read_corpus(path, max_record_bytes=100_000, **settings)
    assert pa.default_memory_pool().max_memory() - before < 100 << 20
    if kind in ("text", "binary"):
        assert corpus.reasons == ["too_long"] * 600
        assert corpus.rejects[7].excerpt == LONG[:200]
        assert corpus.rejects[7].row_index == 7
    else:
        assert corpus.texts == columns["text"]
        [nulled] = add_nulled(one for block in corpus.blocks for one in block.nulled)
        assert nulled.count == 600
        assert "longer than 100000 bytes" in nulled.example
        name = "v.in" if kind == "struct" else "v"
        assert corpus.table[name].null_count == 600


def test_metadata_counts_for_the_size_of_a_block(tmp_path: Path) -> None:
    columns = {"text": [f"t{n}" for n in range(100)], "page": shared([LONG, "short"], 100)}
    path = write_table(tmp_path / "a.parquet", columns, 100, dictionary_pagesize_limit=1 << 30)
    corpus = read_corpus(path, metadata_columns=("page",), block_bytes=1 << 20)
    assert corpus.texts == columns["text"]
    assert corpus.table["page"].to_pylist() == [LONG, "short"] * 50
    assert max(block.rows.nbytes for block in corpus.blocks) < 2 << 20
    small = read_corpus(path, metadata_columns=("page:int64",), block_bytes=1 << 20)
    assert len(small.blocks) == 1


def test_dates_of_96_bits_reach_as_far_as_they_go(tmp_path: Path) -> None:
    days = [(1, 1, 1), (1677, 9, 21), (2024, 1, 2), (2262, 4, 12), (9999, 12, 31)]
    stamps = [datetime.datetime(*day, 3, 4, 5, 678901) for day in days]  # type: ignore[arg-type]
    columns = {"text": [f"t{n}" for n in range(5)], "at": pa.array(stamps, pa.timestamp("us"))}
    path = write_table(tmp_path / "a.parquet", columns, use_deprecated_int96_timestamps=True)
    corpus = read_corpus(path, metadata_columns=("at",))
    assert corpus.table["at"].to_pylist() == stamps
    oracle = duckdb.sql(f"select \"at\" from '{path}'").fetchall()
    assert corpus.table["at"].to_pylist() == [at for (at,) in oracle]
    corpus = read_corpus(path, metadata_columns=("at:string",))
    texts = corpus.table["at"].to_pylist()
    assert [datetime.datetime.fromisoformat(text) for text in texts] == stamps


NANOSECONDS = [
    1_704_067_200_123_456_789, 1_704_067_200_123_456_000, None, -1, -1_000, 0,
    9_000_000_000_000_000_001,
]  # fmt: skip


def test_dates_of_96_bits_lose_no_nanoseconds(tmp_path: Path) -> None:
    stamps = pa.array(NANOSECONDS, pa.timestamp("ns"))
    columns = {
        "text": [f"t{n}" for n in range(7)],
        "at": stamps,
        "list": pa.ListArray.from_arrays(list(range(8)), stamps),
        "within": pa.StructArray.from_arrays([stamps], ["at"]),
    }
    path = write_table(tmp_path / "a.parquet", columns, use_deprecated_int96_timestamps=True)
    corpus = read_corpus(path, metadata_columns=("at", "list", "within.at"))
    # Those that microseconds hold are kept, the others are null and counted.
    kept = [None if one is None or one % 1000 else one // 1000 for one in NANOSECONDS]
    found = corpus.table
    assert found["at"].cast(pa.int64()).to_pylist() == kept
    assert found["within.at"].cast(pa.int64()).to_pylist() == kept
    assert [value and value[0] for value in found["list"].to_pylist()] == found["at"].to_pylist()
    assert {one.column: one.count for one in corpus.blocks[0].nulled} == dict.fromkeys(
        ("at", "list", "within.at"), 3
    )
    # As text all of them are written out.
    corpus = read_corpus(path, text_template="{at}")
    spelled = [
        str(np.datetime64(one, "ns")).replace("T", " ") for one in NANOSECONDS if one is not None
    ]
    assert [text.ljust(29, "0") for text in corpus.texts] == spelled


def test_bytes_nulls_and_uuids_are_texts_and_ids(tmp_path: Path) -> None:
    keys = [uuid.UUID(int=n) for n in (5, 6, 7)]
    columns = {
        "text": pa.array([b"one", "zwei ü".encode(), b"caf\xe9"]),
        "key": pa.array([key.bytes for key in keys], pa.uuid()),
        "number": pa.array(
            [decimal.Decimal(str(10**30 + n)) for n in range(3)], pa.decimal128(38, 0)
        ),
    }
    write_table(tmp_path / "a.parquet", columns)
    write_table(tmp_path / "b.parquet", {"text": pa.nulls(1), "key": pa.nulls(1)})
    corpus = read_corpus(tmp_path, id_column="key", metadata_columns=("key",))
    assert corpus.texts == ["one", "zwei ü"]
    assert corpus.ids == corpus.table["key"].to_pylist() == [str(key) for key in keys[:2]]
    assert corpus.reasons == ["invalid_utf8", "missing_id"]
    corpus = read_corpus(tmp_path / "a.parquet", id_column="number")
    assert corpus.ids == [str(10**30), str(10**30 + 1)]
    assert read_corpus(tmp_path / "b.parquet").reasons == ["missing_column"]


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        (0.1, pa.float32(), "0.1"),
        (0.1, pa.float64(), "0.1"),
        (2**64 - 1, pa.uint64(), "18446744073709551615"),
        (decimal.Decimal("1.10"), pa.decimal128(38, 2), "1.10"),
        (1, pa.time64("ns"), "00:00:00.000000001"),
        (1, pa.timestamp("ns", "UTC"), "1970-01-01 00:00:00.000000001Z"),
        (datetime.date(9999, 12, 31), pa.date32(), "9999-12-31"),
    ],
)
def test_values_in_templates_and_strings_have_all_their_digits(
    tmp_path: Path, value: Any, kind: pa.DataType, wanted: str
) -> None:
    path = write_table(
        tmp_path / "a.parquet",
        {"v": pa.array([value], kind), "s": pa.array([{"in": value}], pa.struct([("in", kind)]))},
    )
    corpus = read_corpus(path, text_template="v={v}", metadata_columns=("v:string", "s:string"))
    [row] = corpus.rows
    assert (row["text"], row["v"]) == (f"v={wanted}", wanted)
    assert wanted in row["s"]


def test_columns_within_structs(tmp_path: Path) -> None:
    rows = [{"body": "one", "meta": {"n": 1}}, None, {"body": "three", "meta": None}]
    columns = {"doc": rows, "doc.meta": ["exact", "e", "x"], "id": ["a", "b", "c"]}
    path = write_table(tmp_path / "a.parquet", columns)
    corpus = read_corpus(
        path, text_column="doc.body", id_column="id", metadata_columns=("doc.meta", "doc.meta.n")
    )
    assert corpus.texts == ["one", "three"]
    assert corpus.reasons == ["missing_column"]
    assert corpus.table["doc.meta"].to_pylist() == ["exact", "x"]
    assert corpus.table["doc.meta.n"].to_pylist() == [1, None]
    with pytest.raises(InputError, match=r"no column 'doc\.boddy' \(is 'doc\.body' meant\?\); its"):
        plan_corpus(corpus_config(path, text_column="doc.boddy"))


def test_metadata_of_one_file_may_be_nulls_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", {"text": ["x"], "n": pa.nulls(1)})
    write_table(tmp_path / "b.parquet", {"text": ["y"], "n": pa.array([3], pa.int32())})
    corpus = read_corpus(tmp_path, metadata_columns=("n",))
    assert corpus.table["n"].to_pylist() == [None, 3]
    assert corpus.table.schema.field("n").type == pa.int32()
