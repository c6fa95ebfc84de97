"""Vectors stored as codes through whole runs: one calibration, whatever the shards and tries."""

import json
from pathlib import Path

import apache_beam as beam
import duckdb
import numpy as np
import polars
import pyarrow.parquet as pq
import pytest
from beam_running import results
from running import Dataset, killed_after_blocks, records, tiny_job, write_jsonl
from sentence_transformers.util.quantization import quantize_embeddings

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.encoders.static.directory import write_directory
from embedkit.engines import encode_splits
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.quantization import Calibration, StoredAs
from embedkit.search.reader import open_version
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.vectors import stored_of, vectors_of

ROWS = 60
WIDTH = 16
SETTINGS = {"pooling": None, "normalize": None, "backend": "auto", "precision": "auto"}


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A model whose vectors are the same to the last bit, whatever they are computed beside."""
    folder = tmp_path_factory.mktemp("static")
    words = sorted({word for row in records(ROWS) for word in row["text"].split()})
    write_directory(folder, np.random.default_rng(1).normal(size=(len(words), WIDTH)), words)
    return str(folder)


def in_shards(folder: Path, count: int, rows=None) -> Path:
    """Writes records into some number of files."""
    for shard, some in enumerate(np.array_split(np.array(rows or records(ROWS)), count)):
        write_jsonl(folder / f"shard-{shard:02d}.jsonl", some.tolist())
    return folder


def job(model: str, inputs: Path, folder: Path, **settings):
    settings = {"id_column": "id", "block_rows": 64, "split_bytes": 1 << 20} | SETTINGS | settings
    return tiny_job(model, inputs, folder / "out", **settings)


def run(model: str, inputs: Path, folder: Path, **settings) -> Dataset:
    config = job(model, inputs, folder, **settings)
    result = run_job(config)
    assert validate(Version(config.output, result.version)).problems == ()
    return Dataset(folder / "out" / result.version)


def codes(dataset: Dataset) -> dict[str, bytes]:
    """The codes of each row by its id."""
    found = {}
    for part in dataset.parts:
        table = pq.read_table(part)
        rows = zip(table["id"].to_pylist(), stored_of(table).matrix, strict=True)
        found |= {name: row.tobytes() for name, row in rows}
    return found


def floats(dataset: Dataset) -> tuple[list[str], np.ndarray]:
    """The ids in order, and the vectors."""
    ids, vectors = open_version(dataset.folder).vectors()
    order = np.argsort(ids)
    return [ids[place] for place in order], vectors[order]


def calibration(dataset: Dataset) -> dict:
    return json.loads((dataset.folder / "_meta" / "calibration.json").read_text())


def figures(dataset: Dataset) -> dict:
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    return report["quantization"]


@pytest.fixture(scope="module")
def runs(static, tmp_path_factory):
    """The same records as float32 and as every kind of code, in one file and in forty."""
    folder = tmp_path_factory.mktemp("codes")
    one, many = in_shards(folder / "one", 1), in_shards(folder / "many", 40)
    found = {"float32": run(static, one, folder / "float32")}
    for dtype in ("int8", "binary"):
        found[dtype] = run(static, one, folder / dtype, vector_dtype=dtype)
    settings = {"vector_dtype": "int8", "split_bytes": 2000, "block_rows": 7}
    found["shards"] = run(static, many, folder / "shards", **settings)
    return found


def test_codes_are_the_same_in_1_or_40_shards(runs):
    assert len(runs["int8"].parts) < 3 and len(runs["shards"].parts) > 9
    assert calibration(runs["int8"]) == calibration(runs["shards"])
    found = codes(runs["int8"])
    assert len(found) == ROWS
    assert found == codes(runs["shards"])
    assert figures(runs["int8"]) == figures(runs["shards"])


def test_codes_are_sentence_transformers_own(runs):
    ids, vectors = floats(runs["float32"])
    said = calibration(runs["int8"])
    both = np.array([said["low"], said["high"]], np.float32)
    # Every text is in the sample of a corpus this small.
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    more = 0.2 * (high - low)
    np.testing.assert_allclose(both, [low - more, high + more], rtol=1e-5)
    for dtype, precision in (("int8", "int8"), ("binary", "ubinary")):
        ranges = None if dtype == "binary" else both
        expected = quantize_embeddings(vectors, precision=precision, ranges=ranges)
        assert codes(runs[dtype]) == {
            name: row.tobytes() for name, row in zip(ids, expected, strict=True)
        }


def test_the_report_the_manifest_and_the_card_say_what_it_costs(runs):
    _, exact = floats(runs["float32"])
    for dtype in ("int8", "binary"):
        _, back = floats(runs[dtype])
        cosines = (exact * back).sum(axis=1) / np.linalg.norm(exact, axis=1)
        cosines /= np.linalg.norm(back, axis=1)
        found = figures(runs[dtype])
        assert found["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
        assert found["least_cosine"] == pytest.approx(cosines.min(), abs=1e-6)
        assert found["bytes_per_vector"] == {"int8": 16, "binary": 2}[dtype]
        manifest = json.loads((runs[dtype].folder / "_meta" / "manifest.json").read_text())
        described = manifest["description"]
        assert described["vector_dtype"] == dtype
        assert described["quantization"]["mean_cosine"] == found["mean_cosine"]
        card = (runs[dtype].folder / "README.md").read_text()
        assert f"{found['mean_cosine']:.6f}" in card
        page = (runs[dtype].folder / "report" / "report.html").read_text()
        assert f"Stored as {dtype}" in page
    assert (
        figures(runs["int8"])["mean_cosine"] > 0.9999 > 0.9 > figures(runs["binary"])["mean_cosine"]
    )
    assert figures(runs["int8"])["calibration_rows"] == ROWS
    assert "quantization" not in (runs["float32"].folder / "report" / "report.json").read_text()


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_the_card_s_code_gives_the_vectors(runs, dtype, monkeypatch):
    dataset = runs[dtype]
    monkeypatch.chdir(dataset.folder)
    card = (dataset.folder / "README.md").read_text()
    code = card.partition("## Reading it")[2].partition("```python\n")[2].partition("```")[0]
    values: dict = {}
    exec(code, values)
    expected = open_version(dataset.folder).vectors()[1]
    np.testing.assert_array_equal(values["vectors"], expected)
    np.testing.assert_array_equal(vectors_of(values["table"]).matrix, expected)


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_other_readers_see_the_codes(runs, dtype):
    expected = codes(runs[dtype])
    files = str(runs[dtype].folder / "data" / "*.parquet")
    kind = np.int8 if dtype == "int8" else np.uint8
    for rows in (
        duckdb.sql(f"SELECT id, embedding FROM '{files}'").fetchall(),
        polars.read_parquet(files).select("id", "embedding").rows(),
    ):
        assert {name: np.array(row, kind).tobytes() for name, row in rows} == expected


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_a_search_finds_what_brute_force_does(runs, dtype):
    ids, back = floats(runs[dtype])
    _, exact = floats(runs["float32"])
    queries = exact[:5].astype(np.float64)
    scores = queries @ back.T.astype(np.float64) / np.linalg.norm(back, axis=1)
    scores /= np.linalg.norm(queries, axis=1, keepdims=True)
    for hits, row in zip(
        open_version(runs[dtype].folder).search(exact[:5], k=3), scores, strict=True
    ):
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[:-4:-1], atol=1e-5)
        np.testing.assert_allclose(
            [hit.score for hit in hits], [row[ids.index(hit.id)] for hit in hits], atol=1e-5
        )


def test_a_run_that_is_resumed_keeps_its_calibration(static, tmp_path, monkeypatch):
    many = in_shards(tmp_path / "in", 9, records(40))
    settings = {"vector_dtype": "int8", "split_bytes": 2000, "block_rows": 7}
    whole = run(static, many, tmp_path / "whole", **settings)
    with killed_after_blocks(monkeypatch, 3):
        run(static, many, tmp_path / "resumed", **settings)
    began = next((tmp_path / "resumed" / "out").glob("v*/_meta/calibration.json"))
    before = began.read_bytes()

    def never(*_):
        raise AssertionError("calibrated once more")

    # What was torn away is in the parts that were committed.
    began.unlink()
    monkeypatch.setattr(encode_splits, "calibrate", never)
    resumed = run(static, many, tmp_path / "resumed", **settings)
    assert began.read_bytes() == before
    assert resumed.part_hashes == whole.part_hashes


def test_the_next_version_takes_calibration_and_codes_over(static, tmp_path, caplog):
    folder, settings = tmp_path / "in", {"vector_dtype": "int8", "split_bytes": 8000}
    rows = records(120)
    in_shards(folder, 4, rows)
    first = run(static, folder, tmp_path, version="first", **settings)
    tonight = [dict(row) for row in rows]
    for row in tonight[::10]:
        row["text"] = "one one one one " + row["text"]
    in_shards(folder, 4, tonight)
    second = run(static, folder, tmp_path, version="second", **settings)
    assert calibration(second) == calibration(first)
    old, new = codes(first), codes(second)
    changed = {name for name in old if old[name] != new[name]}
    assert changed <= {row["id"] for row in tonight[::10]} and changed
    assert figures(second)["rows_measured"] == 12


@pytest.mark.soak
def test_without_the_earlier_version_the_ranges_are_those_of_tonight(static, tmp_path):
    first = run(static, in_shards(tmp_path / "in", 1, records(40)), tmp_path, vector_dtype="int8")
    folder, settings = in_shards(tmp_path / "in", 1, records(40, 20)), {"vector_dtype": "int8"}
    second = run(static, folder, tmp_path, reuse="off", **settings)
    assert calibration(second) != calibration(first)
    assert figures(second)["rows_measured"] == 40
    rows = dict(zip(*floats(first), strict=True))
    for name, vector in zip(*floats(second), strict=True):
        if name in rows:
            np.testing.assert_allclose(vector, rows[name], atol=0.05)


def test_a_version_begun_with_another_calibration_takes_nothing_over(
    static, tmp_path, caplog, monkeypatch
):
    folder, settings = in_shards(tmp_path / "in", 1, records(110)), {"vector_dtype": "int8"}
    run(static, folder, tmp_path, version="first", **settings)
    other = in_shards(tmp_path / "other", 1, records(40, 20))
    with killed_after_blocks(monkeypatch, 0):
        run(static, other, tmp_path, version="second", reuse="off", **settings)
    second = run(static, other, tmp_path, version="second", **settings)
    assert "nothing is taken over from version first: its codes are made by another" in caplog.text
    assert figures(second)["rows_measured"] == 40


def test_a_version_of_one_row_sets_no_ranges_for_the_next(static, tmp_path):
    settings = {"vector_dtype": "int8", "max_reject_share": 1}
    folder = tmp_path / "in"
    for version, rows in (("none", [{"id": "a", "text": ""}]), ("one", records(1))):
        run(static, in_shards(folder, 1, rows), tmp_path, version=version, **settings)
    found = run(static, in_shards(folder, 1, records(20)), tmp_path, version="many", **settings)
    assert figures(found)["clipped_share"] == 0
    assert figures(found)["mean_cosine"] > 0.999


def test_components_too_far_apart_for_codes_are_refused(tmp_path):
    table, folder = [[3e38, 1], [-3e38, 2], [0, 0.5]], tmp_path / "model"
    write_directory(folder, np.array(table), ["one", "two", "three"])
    rows = [{"id": text, "text": text} for text in ("one", "two", "three")]
    inputs = in_shards(tmp_path / "in", 1, rows)
    with pytest.raises(ConfigError, match="less far apart than -3e"):
        run(str(folder), inputs, tmp_path, vector_dtype="int8", normalize=False)
    # What comes later and lies farther outside is at an end.
    how = StoredAs("int8", 1, Calibration.of(np.array([[-1e38], [1e38]], np.float32)))
    assert how.stored(np.array([[-3.4e38], [3.4e38]], np.float32)).tolist() == [[-128], [127]]


@pytest.mark.soak
def test_a_pipeline_over_files_makes_the_codes_of_a_run(static, runs, tmp_path):
    output = OutputConfig(output=str(tmp_path / "files"), vector_dtype="int8")
    corpus = CorpusConfig(inputs=(str(in_shards(tmp_path / "in", 3)),), id_column="id")
    results(lambda pipeline: pipeline | EmbedCorpus(ModelConfig(model=static), output, corpus))
    found = Dataset.latest(tmp_path / "files")
    assert calibration(found) == calibration(runs["int8"])
    assert codes(found) == codes(runs["int8"])


@pytest.mark.soak
def test_a_pipeline_over_rows_makes_the_codes_of_a_run(static, runs, tmp_path):
    output = OutputConfig(output=str(tmp_path), version="v1", vector_dtype="int8")
    rows = [{"id": row["id"], "text": row["text"]} for row in records(ROWS)]
    embed_rows = EmbedCorpus(ModelConfig(model=static), output, shards=3)
    results(lambda pipeline: pipeline | beam.Create(rows) | embed_rows)
    assert codes(Dataset(tmp_path / "v1")) == codes(runs["int8"])


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_a_corpus_without_a_vector_is_complete(static, tmp_path, dtype):
    folder = tmp_path / "in"
    write_jsonl(folder / "a.jsonl", [{"id": "a", "text": "zzz"}, {"id": "b", "text": ""}])
    settings = {"vector_dtype": dtype, "max_reject_share": 1}
    dataset = run(static, folder, tmp_path, **settings)
    assert not dataset.parts and len(dataset.rejects) == 2
    assert figures(dataset)["mean_cosine"] is None


@pytest.mark.soak
def test_chunks_are_calibrated_as_chunks(static, tmp_path):
    folder = in_shards(tmp_path / "in", 2, records(30))
    settings = {"vector_dtype": "int8", "chunk": "tokens", "chunk_tokens": 6}
    found = run(static, folder, tmp_path / "codes", **settings)
    exact = run(static, folder, tmp_path / "exact", **settings | {"vector_dtype": "float32"})
    vectors = floats(exact)[1]
    said = calibration(found)
    assert said["rows"] == len(vectors) > 60
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    np.testing.assert_allclose(said["low"], low - 0.2 * (high - low), rtol=1e-5)


def test_what_cannot_be_stored_so_is_refused(static, tiny_model, tmp_path):
    folder = in_shards(tmp_path / "in", 1, records(5))
    odd = tmp_path / "odd"
    write_directory(odd, np.random.default_rng(1).normal(size=(2, 9)), ["one", "two"])
    with pytest.raises(ConfigError, match="binary puts eight components into a byte"):
        run(str(odd), folder, tmp_path, vector_dtype="binary")
    with pytest.raises(ConfigError, match="int8 is for one vector per document or chunk, and wor"):
        job(tiny_model, folder, tmp_path, vector_dtype="int8", granularity="word")
