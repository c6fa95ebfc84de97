"""A cluster for all tests of this folder, and runs on it that never outlive their test."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import commits, kill_all, wait_until
from raylets import Cluster, Run
from running import (
    Dataset,
    change_corpus,
    flags,
    run_process,
    start,
    tiny_job,
    write_corpus,
)

from embedkit.config import JobConfig

SHARDS, ROWS, BLOCKS = 4, 300, 308


@pytest.fixture(scope="session")
def raylets() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def cluster(raylets) -> Iterator[Cluster]:
    """The cluster, of as many nodes as the test before left; no actor of another test in it."""
    wait_until(lambda: not raylets.actors())
    yield raylets
    kill_all(raylets.actors())


@pytest.fixture
def start_run(raylets, tmp_path) -> Iterator[Callable[..., Run]]:
    """Starts `embedkit run --json` of a job; whatever still runs after the test is killed."""
    runs: list[Run] = []

    def start_one(job: JobConfig) -> Run:
        log_file = tmp_path / f"run-{len(runs)}.log"
        arguments = ["--json", "--progress", "lines", "--log-format", "json"]
        with log_file.open("w") as log:
            process = start("run", *flags(job), *arguments, stderr=log)
        runs.append(Run(process, Path(job.output), log_file))
        return runs[-1]

    yield start_one
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()


@pytest.fixture(scope="session")
def corpus_of_many_blocks(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, ROWS)


@pytest.fixture(scope="session")
def many_blocks(corpus_of_many_blocks, tiny_model) -> Callable[..., JobConfig]:
    """Returns jobs over one corpus of 1,200 records, in 308 blocks of several calls each."""

    def job(output: Path, inputs: Path = corpus_of_many_blocks, **changes: object) -> JobConfig:
        settings = {
            "engine": "ray",
            "workers": 2,
            "encoders": 1,
            "id_column": "id",
            "metadata_columns": ("stars", "title"),
            "block_rows": 4,
            "call_tokens": 48,
            "split_bytes": 8192,
        }
        return tiny_job(tiny_model, inputs, output, **(settings | changes))

    return job


@pytest.fixture(scope="session")
def undisturbed(many_blocks, tmp_path_factory) -> Dataset:
    """The dataset of that job as a run that nothing befalls makes it, without any engine."""
    output = tmp_path_factory.mktemp("undisturbed")
    # In a process of its own, as those that it is compared with have nothing of this one.
    run_process("run", *flags(many_blocks(output, engine="plain")))
    assert len(commits(output)) == BLOCKS
    return Dataset.latest(output)


@pytest.fixture(scope="session")
def changed_corpus(corpus_of_many_blocks, tmp_path_factory) -> Path:
    """The same corpus the night after: one shard as it was, others changed, and a new one."""
    return change_corpus(corpus_of_many_blocks, tmp_path_factory.mktemp("changed"), ROWS)


@pytest.fixture(scope="session")
def undisturbed_update(many_blocks, undisturbed, changed_corpus, tmp_path_factory) -> Dataset:
    """The dataset of the changed corpus, where the other one was there before."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    shutil.copytree(undisturbed.folder.parent, output)
    job = many_blocks(output, engine="plain", inputs=changed_corpus)
    run_process("run", *flags(job))
    updated = Dataset.latest(output)
    assert updated.folder.name != undisturbed.folder.name
    return updated
