"""From one version to the next where files are what they were: copied, whatever runs it."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beam_running import results
from running import Dataset, flags, records, start, tiny_job, write_jsonl

from embedkit.config import CorpusConfig, JobConfig, ModelConfig, OutputConfig
from embedkit.dataset.committed import committed
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines import plain
from embedkit.engines.local import LocalEngine
from embedkit.engines.run import run_job
from embedkit.transforms.embed_corpus import EmbedCorpus

SHARDS, ROWS = 4, 40


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for shard in range(SHARDS):
        write_jsonl(tmp_path / "in" / f"shard-{shard}.jsonl", records(ROWS, shard * ROWS))
    return tmp_path / "in"


@pytest.fixture
def make(tiny_model: str, corpus: Path, tmp_path: Path):
    def job(version: str, output: str = "out", **changes: Any) -> JobConfig:
        settings = {"id_column": "id", "split_bytes": 8000, "version": version}
        return tiny_job(tiny_model, corpus, tmp_path / output, **(settings | changes))

    return job


def no_model(*_: Any) -> None:
    raise AssertionError("a model is loaded")


def check(version: Version, full: Dataset, read: set[str]) -> None:
    """The dataset is that of a run which takes nothing over, and so many splits were read."""
    assert validate(version).problems == ()
    dataset = Dataset(Path(version.url))
    ours, theirs = dataset.table, full.table
    assert ours.drop_columns("embedding").equals(theirs.drop_columns("embedding"))
    vectors = (np.stack(one["embedding"].to_numpy()) for one in (ours, theirs))
    # A row that is encoded alone may differ in the last digits.
    np.testing.assert_allclose(*vectors, atol=1e-6)
    assert dataset.rejects == full.rejects
    origins = {name: record.origin for name, record in committed(version).items()}
    assert {name[:5] for name, origin in origins.items() if origin is None} == read


@pytest.mark.parametrize("engine", ["plain", "local"])
def test_where_nothing_changed_no_model_is_loaded_and_no_engine_started(make, monkeypatch, engine):
    first = run_job(make("v1"))
    monkeypatch.setattr(plain, "LocalConnection", no_model)
    monkeypatch.setattr(LocalEngine, "_start_ray", no_model)
    again = run_job(make("v2", engine=engine))
    documents = SHARDS * ROWS
    assert (again.documents, again.rows, again.rows_resumed) == (documents, documents, 0)
    assert (again.rows_reused, again.rows_encoded, again.rows_removed) == (documents, 0, 0)
    assert (again.tokens_encoded, again.tokens_saved) == (0, first.tokens)
    assert (again.encode_seconds, again.encoder_busy_share) == (0.0, 0.0)
    full = Dataset(Path(first.dataset))
    check(Version(make("v2").output, "v2"), full, set())
    assert Dataset.latest(make("v2").output).folder.name == "v2"
    # Each version is complete by itself.
    names = full.part_hashes
    assert Dataset(Path(again.dataset)).part_hashes == names
    for name in names:
        (full.folder / "data" / name).unlink()
    assert Dataset(Path(again.dataset)).part_hashes == names


def test_in_a_pipeline_of_beam_whose_bundles_run_twice(make, corpus, tiny_model):
    run_job(make("v1"))
    write_jsonl(corpus / "shard-2.jsonl", [*records(ROWS - 1, 2 * ROWS), *records(1, 7000)])
    full = run_job(make("full", "elsewhere"))
    job = make("v2")
    model, output, files = (
        kind(**{name: getattr(job, name) for name in kind.model_fields})
        for kind in (ModelConfig, OutputConfig, CorpusConfig)
    )
    result, *_ = results(
        lambda p: p | EmbedCorpus(model, output, files), direct_runner_bundle_repeat=2
    )
    assert (result.rows_reused, result.rows_encoded) == (SHARDS * ROWS - 1, 1)
    check(Version(job.output, "v2"), Dataset(Path(full.dataset)), {"00002"})
    # Nothing is left to be encoded in a third one.
    third = make("v3")
    (result,) = results(
        lambda p: (
            p | EmbedCorpus(model, output.model_copy(update={"version": "v3"}), files, no_model)
        )
    )
    assert (result.rows_reused, result.tokens_encoded) == (SHARDS * ROWS, 0)
    check(Version(third.output, "v3"), Dataset(Path(full.dataset)), set())


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_session")
def test_on_the_local_engine_with_one_file_changed(make, corpus):
    run_job(make("v1"))
    write_jsonl(corpus / "shard-2.jsonl", [*records(ROWS - 1, 2 * ROWS), *records(1, 7000)])
    write_jsonl(corpus / "a-new.jsonl", records(3, 8000))
    full = run_job(make("full", "elsewhere"))
    result = run_job(make("v2", engine="local", encoders=1, workers=2))
    assert (result.rows_reused, result.rows_encoded) == (SHARDS * ROWS - 1, 4)
    # The new file shares a split with the first one.
    check(Version(make("v2").output, "v2"), Dataset(Path(full.dataset)), {"00000", "00002"})


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_while_it_copies(make, corpus, seed):
    """A driver that dies at any moment; the next one goes on, and the account is right."""
    choose = random.Random(seed)
    files, kills = SHARDS + 40, 0
    for shard in range(files - SHARDS):
        write_jsonl(corpus / f"more-{shard:03d}.jsonl", records(ROWS, 10_000 + shard * ROWS))
    small = {"block_rows": 8}
    run_job(make("v1", **small))
    os.utime(corpus / "shard-1.jsonl", ns=(1, 1))
    full = run_job(make("full", "elsewhere", **small))
    job = make("v2", **small)
    commits = Path(job.output) / "v2" / "_meta" / "commits"
    blocks = files * ROWS // 8
    while kills < 6:
        standing = len(list(commits.glob("*"))) if commits.exists() else 0
        process = start("run", *flags(job), "--json", "--progress", "none")
        wanted = min(blocks - 20, standing + choose.randint(0, 40))
        while process.poll() is None:
            if commits.exists() and len(list(commits.glob("*"))) > wanted:
                break
            time.sleep(0.002)
        time.sleep(choose.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if standing >= blocks - 20:
            break
    standing = len(list(commits.glob("*")))
    result = run_job(job)
    assert kills >= 4
    assert result.rows == files * ROWS
    assert result.rows_resumed == standing * 8
    assert (result.rows_reused, result.rows_encoded, result.tokens_encoded) == (files * ROWS, 0, 0)
    version = Version(job.output, "v2")
    touched = {
        name[:5] for name, one in committed(version).items() if "shard-1.jsonl" in one.sources
    }
    check(version, Dataset(Path(full.dataset)), touched)
