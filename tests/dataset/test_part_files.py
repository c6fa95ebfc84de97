"""Parts as Parquet: columns, encodings, and the same bytes twice."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.dataset.parquet import _compression, read_table, write_part
from embedkit.dataset.schema import PartOptions, metadata_columns, part_schema
from embedkit.errors import IntegrityError
from embedkit.vectors import Vectors

OWN = [
    "id", "embedding", "doc_id", "chunk_index", "char_start", "char_end", "n_tokens", "truncated",
    "text_hash", "source", "row_index", "line_in_range",
]  # fmt: skip


def opened(data):
    return pq.ParquetFile(pa.BufferReader(data))


@pytest.fixture
def block(make_block):
    return make_block(
        rows=6,
        metadata={
            "title": pa.array(["a", "b", None, "a", "b", "a"]),
            "year": pa.array([1, None, 3, 4, 5, 6], pa.int16()),
            "tags": pa.array([["x"], [], None, ["y", "z"], [], []], pa.list_(pa.string())),
        },
    )


def test_columns_and_types(block, make_options):
    schema = opened(write_part(block, make_options())).schema_arrow
    assert schema.names == [*OWN, "title", "year", "tags"]
    vector = schema.field("embedding").type
    assert (vector.list_size, vector.value_type) == (8, pa.float32())
    assert not vector.value_field.nullable
    assert [name for name in OWN if schema.field(name).nullable] == ["line_in_range"]
    assert [str(schema.field(name).type) for name in OWN[2:]] == [
        "string", "int32", "int32", "int32", "int32", "bool", "string", "string", "int64",
        "int64",
    ]  # fmt: skip
    assert schema.field("year").type == pa.int16()
    assert metadata_columns(schema) == ["title", "year", "tags"]


def test_rows_come_back_as_they_were(block, make_options):
    table = read_table(write_part(block, make_options(store_text=True)), "x")
    assert table.column("line_in_range").null_count == len(table)
    for name in [*OWN[:-1], "text", "title", "year", "tags"]:
        assert table.column(name).to_pylist() == block.rows.column(name).to_pylist()
    assert np.array_equal(
        Vectors.from_arrow(table.column("embedding")).matrix, block.vectors.matrix
    )


def test_text_is_stored_only_when_asked_for(block, make_options):
    assert "text" not in read_table(write_part(block, make_options()), "x").column_names
    table = read_table(write_part(block, make_options(store_text=True)), "x")
    assert table.column_names.index("text") == len(OWN)


def test_vectors_of_words_are_all_that_is_not_compressed():
    table = pa.table(
        {
            "embeddings": pa.array([[[1.0, 2.0]]], pa.list_(pa.list_(pa.float32(), 2))),
            "spans": pa.array([[{"char_start": 0, "char_end": 1}]]),
            "tokens": pa.array([["a"]]),
            "tags": pa.array([[["a"], ["b"]]], pa.large_list(pa.list_(pa.string()))),
            "counts": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            "year": pa.array([1999]),
        }
    )
    sink = pa.BufferOutputStream()
    options = PartOptions(2, column="embeddings")
    pq.write_table(table, sink, compression=_compression(table.schema, options))
    group = pq.ParquetFile(sink.getvalue()).metadata.row_group(0)
    found = {
        column.path_in_schema: column.compression
        for column in map(group.column, range(group.num_columns))
    }
    assert found.pop("embeddings.list.element.list.element") == "UNCOMPRESSED"
    assert set(found.values()) == {"ZSTD"}
    assert len(found) == group.num_columns - 1 == 7


def test_encodings(block, make_options):
    row_group = opened(write_part(block, make_options(store_text=True))).metadata.row_group(0)
    columns = {}
    for index in range(row_group.num_columns):
        column = row_group.column(index)
        columns[column.path_in_schema] = column
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    vectors = columns["embedding.list.element"]
    assert not vectors.has_dictionary_page
    assert not vectors.is_stats_set
    assert set(vectors.encodings) <= {"PLAIN", "RLE"}
    assert columns["source"].has_dictionary_page
    assert columns["title"].has_dictionary_page
    for name in ("id", "doc_id", "text_hash", "text", "n_tokens", "year"):
        assert not columns[name].has_dictionary_page
        assert columns[name].is_stats_set


def test_row_groups_are_about_64_mib(make_block, make_options):
    dimension = 1 << 18
    data = write_part(make_block(rows=100, dimension=dimension), make_options(dimension))
    groups = opened(data).metadata
    rows = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
    assert rows == [63, 37]


def test_the_footer_says_what_the_vectors_are(block):
    options = PartOptions(8, file_metadata={"embedkit.model": "m", "embedkit.prompt": "query: ü"})
    metadata = opened(write_part(block, options)).schema_arrow.metadata
    assert metadata == {
        b"embedkit.dimension": b"8",
        b"embedkit.format": b"1",
        b"embedkit.model": b"m",
        b"embedkit.prompt": "query: ü".encode(),
        b"embedkit.vector_dtype": b"float32",
    }


def test_the_same_rows_give_the_same_bytes_here_and_in_another_process(make_block, make_options):
    data = write_part(make_block(rows=50), make_options())
    assert write_part(make_block(rows=50), make_options()) == data
    script = f"""
import hashlib, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from blocks import make_block, make_options
from embedkit.dataset.parquet import write_part
print(hashlib.sha256(write_part(make_block(rows=50), make_options())).hexdigest())
"""
    output = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == hashlib.sha256(data).hexdigest()


def test_the_order_of_the_description_does_not_matter(block):
    pairs = [("embedkit.b", "2"), ("embedkit.a", "1")]
    first = write_part(block, PartOptions(8, file_metadata=dict(pairs)))
    assert first == write_part(block, PartOptions(8, file_metadata=dict(reversed(pairs))))


def test_vectors_are_not_copied_on_their_way_to_the_writer(block, make_options):
    from embedkit.dataset.parquet import part_table

    table = part_table(block, make_options())
    column = table.column("embedding").chunk(0)
    address = column.flatten().buffers()[1].address
    assert address == block.vectors.matrix.__array_interface__["data"][0]


def test_writing_takes_little_memory_beside_the_file_itself(make_block, make_options):
    block = make_block(rows=4000, dimension=1024)
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        data = write_part(block, make_options(1024))
    finally:
        pa.set_memory_pool(before)
    assert 0 < pool.max_memory() < block.vectors.matrix.nbytes / 2
    assert np.array_equal(
        Vectors.from_arrow(read_table(data, "x").column("embedding")).matrix, block.vectors.matrix
    )


def test_float16_storage(make_block, make_options):
    block = make_block(rows=20)
    table = read_table(write_part(block, make_options(vector_dtype="float16")), "x")
    vectors = Vectors.from_arrow(table.column("embedding")).matrix
    assert vectors.dtype == np.float16
    assert np.array_equal(vectors, block.vectors.matrix.astype(np.float16))
    already = make_block(rows=20, dtype="float16")
    assert write_part(already, make_options(vector_dtype="float16")) == (
        write_part(block, make_options(vector_dtype="float16"))
    )


def test_a_sliced_block_is_written_as_its_rows(make_block, make_options):
    block = make_block(rows=10)
    part = block.with_rows(block.rows.slice(3, 4))
    table = read_table(write_part(part, make_options()), "x")
    assert table.column("id").to_pylist() == [f"doc-0-0-{n}" for n in range(3, 7)]
    vectors = Vectors.from_arrow(table.column("embedding")).matrix
    assert np.array_equal(vectors, block.vectors.matrix[3:7])


def test_vectors_of_a_slice_are_its_own(make_block):
    column = make_block(rows=10).rows.slice(3, 4).column("embedding")
    assert np.array_equal(
        Vectors.from_arrow(column).matrix, make_block(rows=10).vectors.matrix[3:7]
    )


def test_a_block_that_does_not_fit_is_named(make_block, make_options):
    with pytest.raises(IntegrityError, match=r"block 00000-00000: .* list: .*\[8\]"):
        write_part(make_block(), make_options(16))
    block = make_block()
    without = block.with_rows(block.rows.drop_columns(["truncated"]))
    with pytest.raises(IntegrityError, match=r"block 00000-00000: .*truncated"):
        write_part(without, make_options())


def test_damaged_bytes_are_named():
    with pytest.raises(IntegrityError, match=r"part-x: not a readable part .*; restore the file"):
        read_table(b"PAR1", "part-x")


def test_every_own_column_has_a_place(make_block, make_options):
    """A new column of the blocks must be added to the parts on purpose."""
    from embedkit.config import RESERVED_COLUMNS

    schema = part_schema(make_block().rows.schema, make_options(store_text=True))
    assert RESERVED_COLUMNS - set(schema.names) == {"input_ids"}
    assert set(schema.names) <= RESERVED_COLUMNS
