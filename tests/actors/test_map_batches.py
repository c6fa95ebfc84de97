"""Datasets of Ray Data, embedded by ``map_batches``: the vectors of a run, nulls and reasons."""

import os
from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import ray.data
from reference_version import SETTINGS, beam_reference

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.map_batches import EmbedBatches
from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.errors import ConfigError
from embedkit.flow.embed_batches import part_rejects

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def embed(tiny_model) -> EmbedBatches:
    """What an actor makes of the class, here and now."""
    return EmbedBatches(tiny_model, **SETTINGS)


@pytest.fixture
def pool(tiny_model, ray_session) -> Iterator[EncoderPool]:
    spec = read_model(ModelConfig(model=tiny_model, **SETTINGS))
    namespace = ray.get_runtime_context().namespace
    started = EncoderPool(
        spec, encoders=1, namespace=namespace, calls_in_flight=2, timeout=120.0, cpus=0.1
    )
    yield started
    started.stop()


@pytest.fixture(scope="module")
def table(tiny_model) -> pa.Table:
    """All rows of the reference whose text is a string or null, as a column can hold."""
    rows = [row for row in beam_reference(tiny_model).rows if isinstance(row["text"], str | None)]
    return pa.table({name: [row[name] for row in rows] for name in ("id", "text")})


def by_id(table: pa.Table) -> dict:
    rows = table.to_pylist()
    assert all((row["embedding"] is None) == (row["reject"] is not None) for row in rows)
    return {row["id"]: row["reject"] or np.array(row["embedding"], np.float32) for row in rows}


def as_numpy(table: pa.Table) -> dict:
    return {name: np.array(table[name].to_pylist(), dtype=object) for name in table.column_names}


@pytest.mark.parametrize("kind", [lambda table: table, pa.Table.to_pandas, as_numpy])
def test_batches_of_every_format_get_the_vectors_of_a_run(tiny_model, embed, table, kind):
    made = embed(kind(table))
    assert isinstance(made, pa.Table)
    assert made.column_names == ["id", "text", "embedding", "reject"]
    assert made.schema.field("embedding").type == pa.list_(pa.float32())
    beam_reference(tiny_model).check(by_id(made), atol=1e-6)
    assert made.num_rows == table.num_rows


def test_tensors_and_what_is_missing_are_kept(embed):
    batch = {"text": np.array(["one", "two"]), "image": np.arange(8.0).reshape(2, 2, 2)}
    made = embed(batch)
    assert made["image"].type.shape == (2, 2)
    assert np.array_equal(np.ravel(made["image"].to_numpy()[1]), [4.0, 5.0, 6.0, 7.0])
    frame = pd.DataFrame({"text": ["one", None, np.nan], "n": pd.array([1, None, 3], "Int64")})
    made = embed(frame)
    assert made["n"].to_pylist() == [1, None, 3]
    assert made["reject"].to_pylist() == [None, "missing_column", "missing_column"]


@pytest.mark.parametrize("rows", [0, 3])
def test_what_nothing_can_be_embedded_of_has_the_same_schema(embed, rows):
    made = embed(pa.table({"text": pa.array([None] * rows, pa.string())}))
    assert made.schema == embed(pa.table({"text": ["one"]})).schema
    assert made["embedding"].null_count == rows


def test_a_single_row_and_a_taken_name_are_refused(embed):
    with pytest.raises(ConfigError, match="map_batches"):
        embed({"text": "one"})
    with pytest.raises(ConfigError, match="has a column reject already"):
        embed(pa.table({"text": ["one"], "reject": ["x"]}))


@pytest.mark.soak
def test_a_dataset_is_embedded_by_a_pools_encoders_and_parted(tiny_model, table, tmp_path, pool):
    run = beam_reference(tiny_model)
    dataset = ray.data.from_arrow([table.slice(0, 1), table.slice(1, 1), table.slice(2)])
    mapped = dataset.map_batches(
        EmbedBatches,
        fn_constructor_kwargs={"model": tiny_model, "connect": pool.connection, **SETTINGS},
        batch_format="pyarrow",
        batch_size=1,
        num_cpus=0.1,
        concurrency=1,
    ).materialize()
    mapped.write_parquet(str(tmp_path / "all"))
    run.check(by_id(pq.read_table(tmp_path / "all")), atol=1e-6)

    embedded, rejects = part_rejects(mapped)
    embedded.write_parquet(str(tmp_path / "embedded"))
    vectors = pq.read_table(tmp_path / "embedded")
    assert vectors.schema.field("embedding").type.list_size == 32
    assert vectors.column_names == ["id", "text", "embedding"]
    reasons = {row["id"]: row["reject"] for row in rejects.take_all()}
    run.check(
        dict(zip(vectors["id"].to_pylist(), vectors["embedding"].to_pylist(), strict=True)), 1e-6
    )
    run.check(reasons)
    assert vectors.num_rows + len(reasons) == table.num_rows
    files = os.fspath(tmp_path / "all" / "*.parquet")
    query = f"select count(*), count(embedding), count(reject) from '{files}'"
    assert duckdb.sql(query).fetchall() == [(table.num_rows, vectors.num_rows, len(reasons))]
