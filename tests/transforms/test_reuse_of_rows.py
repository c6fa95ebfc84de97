"""Rows of a user's own pipeline, night after night: what did not change is not encoded again."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from beam_running import FailingClient, results
from running import Dataset, records, tiny_job, write_corpus

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig, RecordConfig
from embedkit.corpus.rows import blocks_from_rows
from embedkit.records import DocumentBlock
from embedkit.reports.account import RunAccount
from embedkit.transforms.beam_yaml import embed_corpus
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.vectors import TokenBatch

_SMALL = RecordConfig(block_rows=16)


class Counting(FailingClient):
    """Counts what it encodes, with as many components as the tiny model has."""

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
        for vectors in super().encode_all(batches):
            yield np.tile(vectors, 8)


@pytest.fixture
def model(tiny_model: str) -> ModelConfig:
    return ModelConfig(model=tiny_model, pooling="mean", normalize=False, precision="float32")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def embed(
    pipeline: beam.PTransform, model: ModelConfig, root: str, name: str, **settings: Any
) -> tuple[RunAccount, int]:
    """Makes a version of documents; returns its account, and how many rows were encoded."""
    FailingClient.encoded = 0
    output = OutputConfig(output=root, version=name)
    options = settings.pop("options", {})
    transform = EmbedCorpus(model, output, connect=Counting, **settings)
    # Of a bundle that runs twice, the results come twice as well.
    account, *_ = results(lambda p: p | pipeline | transform, **options)
    return account, FailingClient.encoded


def vectors(root: str, name: str) -> dict[str, bytes]:
    table = Dataset(Path(root) / name).table
    pairs = zip(table["id"].to_pylist(), table["embedding"].to_pylist(), strict=True)
    return {one: pa.array(vector, pa.float32()).buffers()[1].to_pybytes() for one, vector in pairs}


def test_of_a_hundred_rows_the_one_that_changed_is_encoded(model: ModelConfig, root: str) -> None:
    rows = records(100)
    settings: dict[str, Any] = {"records": _SMALL, "shards": 4}
    assert embed(beam.Create(rows), model, root, "monday", **settings)[1] == 100
    rows[42] = {**rows[42], "text": "something else"}
    settings["options"] = {"direct_num_workers": 2, "direct_running_mode": "multi_threading"}
    account, encoded = embed(beam.Create(rows), model, root, "tuesday", **settings)
    assert encoded == 1
    assert (account.rows_reused, account.rows_encoded, account.rows_changed) == (99, 1, 1)
    before, now = vectors(root, "monday"), vectors(root, "tuesday")
    assert {one for one in now if now[one] != before[one]} == {"doc-00042"}
    assert list((Path(root) / "tuesday").rglob("*.run")) == []


@pytest.mark.soak
def test_bundles_that_run_twice_find_the_same(model: ModelConfig, root: str) -> None:
    settings: dict[str, Any] = {"records": _SMALL, "shards": 4}
    embed(beam.Create(records(60)), model, root, "monday", **settings)
    settings["options"] = {"direct_runner_bundle_repeat": 2}
    rows = records(60, start=1)
    account, encoded = embed(beam.Create(rows), model, root, "tuesday", **settings)
    # Once, or twice where its block is encoded before the first attempt at it is committed.
    assert encoded in (1, 2)
    assert (account.rows_reused, account.rows_encoded, account.rows_removed) == (59, 1, 1)
    Dataset(Path(root) / "tuesday").check_accounts(60)


@pytest.mark.soak
def test_blocks_of_a_users_own_making(model: ModelConfig, root: str) -> None:
    rows = records(30)
    for name, expected in (("monday", 30), ("tuesday", 1)):
        blocks = list(blocks_from_rows("00000", rows, RecordConfig(block_rows=8)))
        create = beam.Create(blocks).with_output_types(DocumentBlock)
        assert embed(create, model, root, name)[1] == expected
        rows[7] = {**rows[7], "text": "something else"}


@pytest.mark.soak
def test_files_that_a_pipeline_reads_itself(model: ModelConfig, root: str, tmp_path: Path) -> None:
    for name, shards in (("monday", 3), ("tuesday", 6)):
        corpus = write_corpus(tmp_path / name, shards, 60 // shards)
        job = tiny_job(model.model, corpus, tmp_path, id_column="id")
        taken = CorpusConfig(**{one: getattr(job, one) for one in CorpusConfig.model_fields})
        FailingClient.encoded = 0
        output = OutputConfig(output=root, version=name, reuse_scope="global")
        (account,) = results(lambda p: p | EmbedCorpus(model, output, taken, Counting))  # noqa: B023
        assert FailingClient.encoded == (60 if name == "monday" else 0)
    assert (account.rows_reused, account.rows_added) == (60, 0)
    assert vectors(root, "tuesday") == vectors(root, "monday")


@pytest.mark.soak
def test_in_beam_yaml(tiny_model: str, root: str) -> None:
    settings = {"model": tiny_model, "pooling": "mean", "normalize": True, "output": root}
    rows = [beam.Row(**row) for row in records(20)]
    for name in ("monday", "tuesday"):
        transform = embed_corpus(**settings, version=name, shards=2)
        (row,) = results(lambda p: p | beam.Create(rows) | transform)  # noqa: B023
        rows[3] = beam.Row(**{**records(20)[3], "text": "something else"})
    assert (row.rows_reused, row.rows_encoded, row.rows_changed) == (19, 1, 1)
    assert 0 < row.tokens_encoded < row.tokens_saved
