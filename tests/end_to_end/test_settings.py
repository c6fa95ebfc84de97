"""Settings of a job through the whole run: Matryoshka, float16, prompts, text, typed metadata."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from running import Dataset, flags, run_process
from sentence_transformers import SentenceTransformer
from texts import paragraphs

from embedkit.config import JobConfig
from embedkit.engines.run import run_job

pytestmark = pytest.mark.timeout(900)

ROWS = 24
METADATA = {
    "stars": pa.array([None if n % 7 == 3 else n for n in range(ROWS)], pa.int16()),
    "weight": pa.array([None if n % 5 == 1 else n / 3 for n in range(ROWS)], pa.float64()),
    "free": pa.array([n % 2 == 0 for n in range(ROWS)]),
    "seen": pa.array(
        [datetime(2026, 1, 1, n % 24, 30, 1, 250_000, tzinfo=UTC) for n in range(ROWS)],
        pa.timestamp("us", tz="UTC"),
    ),
    "day": pa.array([date(2020, 2, 1 + n % 28) for n in range(ROWS)]),
    "price": pa.array([Decimal(n) / 4 for n in range(ROWS)], pa.decimal128(9, 2)),
    "tags": pa.array([[f"t{n}", "ü"][: n % 3] for n in range(ROWS)], pa.list_(pa.string())),
    "kind": pa.array([f"kind {n % 3}" for n in range(ROWS)]).dictionary_encode(),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A Parquet file of real text with metadata of many types."""
    texts = list(paragraphs()[5 :: len(paragraphs()) // ROWS][:ROWS])
    file = tmp_path_factory.mktemp("typed") / "docs.parquet"
    columns = {"key": pa.array(range(1000, 1000 + ROWS)), "body": pa.array(texts), **METADATA}
    pq.write_table(pa.table(columns), file, row_group_size=7)
    return file, texts


def job_of(corpus, model, output, **changes) -> JobConfig:
    settings = {
        "inputs": (str(corpus[0]),),
        "text_column": "body",
        "id_column": "key",
        "metadata_columns": tuple(METADATA),
        "model": model,
        "output": str(output),
        "device": "cpu",
        "backend": "torch",
        "precision": "float32",
        "block_rows": 5,
        "split_bytes": 1,
        "store_text": True,
        "engine": "plain",
    }
    return JobConfig(**(settings | changes))


@pytest.fixture(scope="module")
def written(corpus, minilm, tmp_path_factory) -> Dataset:
    """The whole job from the command line: 128 of 384 components as float16, with a prompt."""
    job = job_of(
        corpus,
        minilm,
        tmp_path_factory.mktemp("settings") / "out",
        dimensions=128,
        vector_dtype="float16",
        prompt="passage: ",
    )
    done = run_process("run", *flags(job), "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == ROWS
    return Dataset.latest(job.output)


def stacked(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), array.type.list_size)


@pytest.mark.soak
def test_matryoshka_float16_and_prompt(written, corpus, oracle):
    expected = oracle.encode(
        corpus[1], prompt="passage: ", truncate_dim=128, normalize_embeddings=True
    )
    found = stacked(written.table["embedding"])
    assert found.dtype == np.float16
    # Half a unit in the last place of float16 below 1, and the tolerance of float32 vectors.
    np.testing.assert_allclose(found, expected, rtol=2**-11, atol=2e-5 + 2**-25)
    assert np.abs(found.astype(np.float64)).max() < 1
    norms = np.linalg.norm(found.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-3)
    without = oracle.encode(corpus[1], truncate_dim=128, normalize_embeddings=True)
    assert np.abs(expected - without).max() > 0.01


@pytest.mark.parametrize("normalize", [pytest.param(True, marks=pytest.mark.soak), False])
def test_fewer_components_and_normalization_on_or_off(normalize, corpus, minilm, oracle, tmp_path):
    job = job_of(corpus, minilm, tmp_path, dimensions=64, normalize=normalize)
    run_job(job)
    bare = SentenceTransformer(modules=[oracle[0], oracle[1]], device="cpu")
    expected = bare.encode(corpus[1], truncate_dim=64, normalize_embeddings=normalize)
    found = stacked(Dataset.latest(tmp_path).table["embedding"])
    assert found.dtype == np.float32
    scale = np.abs(expected).max() if not normalize else 1.0
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)
    norms = np.linalg.norm(found, axis=1)
    assert np.allclose(norms, 1, atol=1e-6) == normalize
    described = Dataset.latest(tmp_path).manifest["description"]
    assert described["normalized"] is normalize
    assert described["dimension"] == 64


def test_metadata_keeps_its_types_and_values(written, corpus):
    table = written.table
    assert table["id"].to_pylist() == [str(n) for n in range(1000, 1000 + ROWS)]
    for name, given in METADATA.items():
        plain = given.dictionary_decode() if pa.types.is_dictionary(given.type) else given
        assert table.schema.field(name).type == plain.type, name
        assert table[name].to_pylist() == plain.to_pylist(), name
    assert table["text"].to_pylist() == corpus[1]


def values(column) -> list:
    """Values of a column of any library, absent ones as None and lists as lists."""
    found = []
    for value in column:
        value = value.tolist() if isinstance(value, np.ndarray) else value
        value = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
        value = value.date() if type(value) is datetime and value.tzinfo is None else value
        absent = value is None or (not isinstance(value, list) and pd.isna(value))
        found.append(None if absent else value)
    return found


def by_pandas(dataset: Dataset) -> dict:
    return dict(pd.read_parquet(dataset.folder / "data").items())


def by_pyarrow(dataset: Dataset) -> dict:
    table = pyarrow.dataset.dataset(str(dataset.folder / "data"), format="parquet").to_table()
    return {name: table[name].to_pylist() for name in table.schema.names}


def by_polars(dataset: Dataset) -> dict:
    frame = pl.read_parquet(f"{dataset.folder.parent}/*/data/*.parquet")
    return {name: frame[name].to_list() for name in frame.columns}


def by_duckdb(dataset: Dataset) -> dict:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            f"SELECT * FROM '{dataset.folder.parent}/*/data/*.parquet'"
        ).fetchall()
        names = [column[0] for column in connection.description]
    return dict(zip(names, zip(*found, strict=True), strict=True))


def by_datasets(dataset: Dataset) -> dict:
    import datasets

    cache = str(dataset.folder.parent.parent / "cache")
    loaded = datasets.load_dataset(str(dataset.folder), split="train", cache_dir=cache)
    return {name: loaded[name] for name in loaded.column_names}


@pytest.mark.parametrize("read", [by_pandas, by_pyarrow, by_polars, by_duckdb, by_datasets])
def test_every_reader_finds_all_columns_of_a_run(read, written):
    found = read(written)
    order = np.argsort([int(value) for value in found["id"]])
    for name, given in METADATA.items():
        column = values(found[name])
        assert [column[place] for place in order] == values(given.to_pylist()), name
    vectors = np.stack([np.asarray(vector, dtype=np.float32) for vector in found["embedding"]])
    assert np.array_equal(vectors[order], stacked(written.table["embedding"]))
