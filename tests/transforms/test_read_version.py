"""The rows of a version that stands, given to a Beam pipeline of one's own."""

import shutil
from dataclasses import replace

import apache_beam as beam
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from beam_running import results
from hypothesis import given
from hypothesis import strategies as st
from releases import FIXTURES, copy_of_root

from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import find_version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.transforms import read_version
from embedkit.transforms.read_version import ReadVersion, RecordBatchCoder

ROOT = FIXTURES / "0.1.0" / "root"
NEWEST = ROOT / (ROOT / "LATEST").read_text().strip()


def rows_of(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).sort_by("id").replace_schema_metadata()


def expected() -> pa.Table:
    # pyarrow's own reader of folders is the oracle.
    table = ds.dataset(NEWEST / "data", format="parquet").to_table()
    return table.sort_by("id").replace_schema_metadata()


@pytest.mark.parametrize("path", [ROOT, NEWEST])
def test_all_rows_come_with_all_columns_of_a_root_or_a_version(path):
    batches = results(lambda p: p | ReadVersion(str(path)))
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert len(batches) > 1
    assert rows_of(batches).equals(expected())


def test_columns_that_are_asked_for_outlive_a_shuffle():
    def shuffled(pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | ReadVersion(str(ROOT), ["embedding", "id"]) | beam.Reshuffle()

    found = rows_of(results(shuffled))
    assert found.column_names == ["embedding", "id"]
    assert found.equals(expected().select(["embedding", "id"]))


def test_a_file_that_the_manifest_does_not_list_is_not_read(tmp_path):
    data = copy_of_root("0.1.0", tmp_path / "root") / NEWEST.name / "data"
    shutil.copy(data / "part-00000-00000.parquet", data / "part-00009-00000.parquet")
    batches = results(lambda p: p | ReadVersion(str(tmp_path / "root"), ["id"]))
    assert rows_of(batches).equals(expected().select(["id"]))


def test_a_version_without_rows_is_an_empty_collection(monkeypatch):
    empty = replace(read_manifest(find_version(str(ROOT))), parts=())
    monkeypatch.setattr(read_version, "read_manifest", lambda version: empty)
    assert results(lambda p: p | ReadVersion(str(ROOT), ["id"])) == []


def test_what_cannot_be_read_is_refused_when_the_pipeline_is_built(tmp_path):
    with pytest.raises(ConfigError, match="no column 'titel'; there are id, embedding"):
        beam.Pipeline() | ReadVersion(str(ROOT), ["titel"])
    with pytest.raises(ConfigError, match="no such directory"):
        beam.Pipeline() | ReadVersion(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="not complete yet"):
        beam.Pipeline() | ReadVersion(str(ROOT / "nightly"))


def test_a_part_that_is_not_what_the_manifest_says_stops_the_pipeline(tmp_path):
    data = copy_of_root("0.1.0", tmp_path / "root") / NEWEST.name / "data"
    first, *_, last = sorted(data.iterdir())
    rows = [pq.read_metadata(part).num_rows for part in (first, last)]
    assert rows[0] != rows[1]
    shutil.copy(first, last)
    said = rf"{last.name}: {rows[0]} rows, expected {rows[1]}"
    with pytest.raises(IntegrityError, match=said):
        results(lambda p: p | ReadVersion(str(tmp_path / "root")))


@given(st.lists(st.tuples(st.text(), st.lists(st.floats(width=32), min_size=3, max_size=3))))
def test_a_batch_is_coded_and_decoded_to_itself(rows):
    kind = pa.list_(pa.float32(), 3)
    batch = pa.record_batch(
        {
            "id": pa.array([text for text, _ in rows], pa.string()),
            "embedding": pa.array([vector for _, vector in rows], kind),
        }
    )
    coder = RecordBatchCoder()
    # A view of some rows is coded as those alone.
    for one in (batch, batch.slice(1)):
        found = coder.decode(coder.encode(one))
        assert found.schema == batch.schema
        assert repr(found.to_pylist()) == repr(one.to_pylist())


def test_a_batch_is_measured_without_encoding_it():
    numbers = pa.record_batch({"n": pa.array(range(10_000), pa.int64())})
    for batch in (numbers, numbers.slice(5_000)):
        size = len(RecordBatchCoder().encode(batch))
        assert RecordBatchCoder().estimate_size(batch) == pytest.approx(size, rel=0.05)
