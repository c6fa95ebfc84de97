"""Rows of any number of vectors, as a model gives that has one per token: parts and versions."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from blocks import DESCRIPTION, Job

from embedkit.dataset.card import dataset_card
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.parquet import read_table, write_part
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.validate import validate
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search.exact import search
from embedkit.search.reader import open_version
from embedkit.vectors import PART_SPANS_FIELD, Vectors

SPANS = PART_SPANS_FIELD.type
COUNTS = [3, 0, 1, 17, 2, 2, 0]
MANY = PartOptions(8, column="embeddings", file_metadata={"embedkit.fingerprint": "f" * 32})


def rows_of(block, seed=0):
    random = np.random.default_rng(seed)
    rows = [random.standard_normal((count, 8)).astype(np.float32) for count in COUNTS]
    rows = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in rows]
    return rows, with_vectors(block, Vectors.from_rows(rows, 8))


def with_vectors(block, vectors):
    field = pa.field("embeddings", vectors.arrow_type, nullable=False)
    kept = [
        name for name in block.rows.schema.names if name not in ("embedding", field.name, "spans")
    ]
    rows = block.rows.select(kept).append_column(field, vectors.to_arrow())
    spans = [
        [{"char_start": n % 9, "char_end": n % 9 + 1} for n in range(some)]
        for some in vectors.counts
    ]
    return block.with_rows(rows.append_column(PART_SPANS_FIELD, pa.array(spans, SPANS)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_to_a_part_and_back(make_block, dtype, tmp_path, monkeypatch):
    # So that pieces end within the rows, and one row is larger than a piece.
    monkeypatch.setattr("embedkit.dataset.parquet._COMPONENTS_AT_ONCE", 64)
    rows, block = rows_of(make_block(rows=len(COUNTS)))
    assert block.vectors.counts.tolist() == COUNTS
    file = tmp_path / "part.parquet"
    options = PartOptions(8, vector_dtype=dtype, column="embeddings")
    file.write_bytes(write_part(block, options))
    expected = [vectors.astype(dtype).tolist() for vectors in rows]
    table = read_table(file.read_bytes(), "x")
    assert table.schema.field("embeddings").type == options.vector_type
    vectors = Vectors.from_arrow(table.column("embeddings"))
    assert vectors.values.dtype == dtype
    assert [vectors.of_row(row).tolist() for row in range(len(vectors))] == expected
    assert table.column("embeddings").to_pylist() == expected
    query = f"SELECT id, embeddings::FLOAT[8][] FROM '{file}' ORDER BY row_index"
    ids, found = zip(*duckdb.sql(query).fetchall(), strict=True)
    assert list(ids) == block.rows.column("id").to_pylist()
    assert [list(map(list, row)) for row in found] == expected
    sliced = block.with_rows(block.rows.slice(2, 3))
    part = read_table(write_part(sliced, options), "x").column("embeddings")
    assert part.to_pylist() == expected[2:5]


def test_a_block_of_one_vector_is_not_written_where_rows_have_many(make_block):
    with pytest.raises(IntegrityError, match="block 00000-00000: "):
        write_part(make_block(), MANY)


def test_a_version_is_completed_validated_and_described(version, make_block):
    _, block = rows_of(make_block(rows=len(COUNTS)))
    of = {"column": "embeddings", "granularity": "token"}
    Job([block], options=MANY, description=DESCRIPTION | of).complete(version)
    report = validate(version)
    assert (report.problems, report.rows) == ((), len(COUNTS))
    card = dataset_card(version, read_manifest(version))
    assert "| embeddings | any number of float x 8 |" in card
    with pytest.raises(ConfigError, match=r"^v1 holds vectors of tokens, and search n"):
        search(version, np.ones(8, np.float32), 1)
    rows = open_version(version.url)
    with pytest.raises(ConfigError, match=r"^v1 holds vectors of tokens, and vectors\(\) needs"):
        rows.vectors()
    batches = list(rows.to_batches(["id", "embeddings", "spans"]))
    counts = [len(one) for batch in batches for one in batch["embeddings"].to_pylist()]
    assert counts == COUNTS


def test_each_of_a_row_s_vectors_is_validated(version, make_block):
    rows, block = rows_of(make_block(rows=len(COUNTS)))
    rows[3][16] *= 2
    rows[4][1, 0] = np.nan
    block = with_vectors(block, Vectors.from_rows(rows, 8))
    Job([block], options=MANY, description=DESCRIPTION).complete(version)
    said = "\n".join(validate(version).problems)
    assert "1 vectors are not finite" in said
    assert "1 vectors are not of length 1, the farthest has 2" in said


def test_a_row_has_as_many_spans_as_vectors(version, make_block):
    _, block = rows_of(make_block(rows=len(COUNTS)))
    place = block.rows.schema.get_field_index("spans")
    spans = block.rows.column("spans").to_pylist()
    spans[0].pop()
    spans[3].append(spans[3][0])
    block = block.with_rows(block.rows.set_column(place, PART_SPANS_FIELD, pa.array(spans, SPANS)))
    Job([block], options=MANY, description=DESCRIPTION).complete(version)
    (said,) = validate(version).problems
    assert "2 rows do not have as many spans as vectors" in said


@pytest.mark.parametrize(
    "wrong", [{"char_end": 99}, {"char_start": -1}, {"char_start": 3, "char_end": 2}]
)
def test_a_span_lies_within_the_text_of_its_row(version, make_block, wrong):
    _, block = rows_of(make_block(rows=len(COUNTS)))
    place = block.rows.schema.get_field_index("spans")
    spans = block.rows.column("spans").to_pylist()
    spans[4][1] |= wrong
    block = block.with_rows(block.rows.set_column(place, PART_SPANS_FIELD, pa.array(spans, SPANS)))
    Job([block], options=MANY, description=DESCRIPTION).complete(version)
    (said,) = validate(version).problems
    assert "1 spans lie outside of their row's text" in said
