"""Columns of all rows, in the order of the parts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_parquet import without_page

from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.rows import checked_columns, read_columns, read_rows, schema_of
from embedkit.errors import ConfigError, IntegrityError


def test_columns_come_in_the_order_of_the_parts(complete, job):
    parts = read_manifest(complete).parts
    batches = list(read_columns(complete, parts, ["text_hash", "id"], rows_at_once=2))
    assert all(batch.num_rows <= 2 for batch in batches)
    assert all(batch.schema.names == ["text_hash", "id"] for batch in batches)
    for name in ("id", "text_hash"):
        found = [value for batch in batches for value in batch.column(name).to_pylist()]
        expected = [value for block in job.blocks for value in block.rows.column(name).to_pylist()]
        assert found == expected


def test_a_part_that_is_gone_or_damaged_is_named(complete):
    parts = read_manifest(complete).parts
    key = complete.key(parts[1].path)
    complete.store.replace(key, b"PAR1")
    with pytest.raises(IntegrityError, match=r"part-00000-00001\.parquet: not a readable part"):
        list(read_columns(complete, parts, ["id"]))
    complete.store.remove(key)
    with pytest.raises(IntegrityError, match=r"part-00000-00001\.parquet: in the manifest, but"):
        list(read_columns(complete, parts, ["id"]))


def test_all_columns_are_those_of_the_schema(complete, job):
    parts = read_manifest(complete).parts
    (schema,) = {batch.schema.remove_metadata() for batch in read_columns(complete, parts, None)}
    assert schema == schema_of(complete, parts).remove_metadata()
    assert {"id", "embedding", "doc_id", "source"} <= set(schema.names)
    assert schema_of(complete, ()).names == []


@pytest.mark.parametrize("columns", [["id", "titel"], ["titel"]])
def test_a_column_that_is_not_there_is_named_with_those_that_are(complete, columns):
    parts = read_manifest(complete).parts
    with pytest.raises(ConfigError, match="no column 'titel'; there are id, embedding, doc_id"):
        checked_columns(schema_of(complete, parts), columns)


def test_a_part_with_other_rows_than_the_manifest_says_is_named(complete):
    parts = read_manifest(complete).parts
    data = complete.store.read(complete.key(parts[0].path))
    complete.store.replace(complete.key(parts[1].path), data)
    with pytest.raises(IntegrityError, match=r"part-00000-00001\.parquet: 5 rows, expected 3"):
        list(read_columns(complete, parts, ["id"]))


@pytest.mark.parametrize("places", [None, [0, 2]])
def test_a_page_that_arrow_passes_over_is_no_end_of_the_rows(complete, places):
    part = read_manifest(complete).parts[0]
    key = complete.key(part.path)
    complete.store.replace(key, without_page(complete.store.read(key), "id"))
    damage = r"part-00000-00000\.parquet: not a readable part \(0 rows can be read of 5\)"
    chosen = None if places is None else np.array(places, np.int64)
    for columns in (["id"], ["id", "doc_id"]):
        with pytest.raises(IntegrityError, match=damage):
            list(read_columns(complete, [part], columns))
        # Arrow itself finds columns of different lengths.
        with pytest.raises(IntegrityError, match=damage if len(columns) == 1 else "not a readable"):
            read_rows(complete, part, columns, chosen)


@pytest.fixture
def in_groups(complete):
    """A part of 2,500 rows in three row groups."""
    rows = pa.table({"id": [f"row {n}" for n in range(2500)], "n_tokens": range(2500)})
    part = read_manifest(complete).parts[0]
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, row_group_size=1030)
    complete.store.replace(complete.key(part.path), sink.getvalue().to_pybytes())
    return part


@pytest.mark.parametrize(
    "places",
    [[], [0], [2499], [1023], [1024], [1029], [1030], [0, 1023, 1024, 1029, 1030, 2060, 2499],
     [5, 6, 7, 1500], list(range(0, 2500, 7))],
)  # fmt: skip
def test_some_rows_are_those_at_their_places(complete, in_groups, places):
    found = read_rows(complete, in_groups, ["n_tokens", "titel", "id"], np.array(places, np.int64))
    assert found.to_pydict() == {"id": [f"row {n}" for n in places], "n_tokens": places}


def test_all_rows_of_a_part(complete, in_groups):
    assert read_rows(complete, in_groups, ["n_tokens"])["n_tokens"].to_pylist() == [*range(2500)]


def test_a_part_with_fewer_rows_than_are_asked_for_is_named(complete, in_groups):
    with pytest.raises(IntegrityError, match=r"part-00000-00000\.parquet: 2500 rows, too few"):
        read_rows(complete, in_groups, ["id"], np.array([3, 2500]))
