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
from embedkit.errors import IntegrityError
from embedkit.search.exact import search
from embedkit.vectors import Vectors

COUNTS = [3, 0, 1, 17, 2, 2, 0]
MANY = PartOptions(8, many_vectors=True, file_metadata={"embedkit.fingerprint": "f" * 32})


def rows_of(block, seed=0):
    random = np.random.default_rng(seed)
    rows = [random.standard_normal((count, 8)).astype(np.float32) for count in COUNTS]
    rows = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in rows]
    return rows, with_vectors(block, Vectors.from_rows(rows, 8))


def with_vectors(block, vectors):
    field = pa.field("embedding", vectors.arrow_type, nullable=False)
    place = block.rows.schema.get_field_index("embedding")
    return block.with_rows(block.rows.set_column(place, field, vectors.to_arrow()))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_to_a_part_and_back(make_block, dtype, tmp_path, monkeypatch):
    # So that pieces end within the rows, and one row is larger than a piece.
    monkeypatch.setattr("embedkit.dataset.parquet._COMPONENTS_AT_ONCE", 64)
    rows, block = rows_of(make_block(rows=len(COUNTS)))
    assert block.vectors.counts.tolist() == COUNTS
    file = tmp_path / "part.parquet"
    options = PartOptions(8, vector_dtype=dtype, many_vectors=True)
    file.write_bytes(write_part(block, options))
    expected = [vectors.astype(dtype).tolist() for vectors in rows]
    table = read_table(file.read_bytes(), "x")
    assert table.schema.field("embedding").type == options.vector_type
    vectors = Vectors.from_arrow(table.column("embedding"))
    assert vectors.values.dtype == dtype
    assert [vectors.of_row(row).tolist() for row in range(len(vectors))] == expected
    assert table.column("embedding").to_pylist() == expected
    query = f"SELECT id, embedding::FLOAT[8][] FROM '{file}' ORDER BY row_index"
    ids, found = zip(*duckdb.sql(query).fetchall(), strict=True)
    assert list(ids) == block.rows.column("id").to_pylist()
    assert [list(map(list, row)) for row in found] == expected
    sliced = block.with_rows(block.rows.slice(2, 3))
    part = read_table(write_part(sliced, options), "x").column("embedding")
    assert part.to_pylist() == expected[2:5]


def test_a_block_of_one_vector_is_not_written_where_rows_have_many(make_block):
    with pytest.raises(IntegrityError, match="block 00000-00000: "):
        write_part(make_block(), MANY)


def test_a_version_is_completed_validated_and_described(version, make_block):
    _, block = rows_of(make_block(rows=len(COUNTS)))
    Job([block], options=MANY).complete(version)
    report = validate(version)
    assert (report.problems, report.rows) == ((), len(COUNTS))
    card = dataset_card(version, read_manifest(version))
    assert "| embedding | any number of float x 8 |" in card
    with pytest.raises(IntegrityError, match="vectors: these rows have any number of them"):
        search(version, np.ones(8, np.float32), 1)


def test_each_of_a_row_s_vectors_is_validated(version, make_block):
    rows, block = rows_of(make_block(rows=len(COUNTS)))
    rows[3][16] *= 2
    rows[4][1, 0] = np.nan
    block = with_vectors(block, Vectors.from_rows(rows, 8))
    Job([block], options=MANY, description=DESCRIPTION).complete(version)
    said = "\n".join(validate(version).problems)
    assert "1 vectors are not finite" in said
    assert "1 vectors are not of length 1, the farthest has 2" in said
