"""A job of many small blocks, its dataset undisturbed, and runs that never outlive their test."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fault_cases import (
    GcsPlace,
    LocalPlace,
    MemoryPlace,
    Place,
    S3Place,
    contents,
    small_blocks,
    write_first_night,
    write_second_night,
)
from processes import commits, family, kill_all
from running import Dataset, change_corpus, flags, start, tiny_job, write_corpus
from tokenizers import Tokenizer

from embedkit.config import JobConfig
from embedkit.engines.run import run_job

SHARDS, ROWS, BLOCKS = 4, 300, 308


@pytest.fixture(scope="session")
def corpus_of_many_blocks(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), SHARDS, ROWS)


@pytest.fixture(scope="session")
def changed_corpus(corpus_of_many_blocks, tmp_path_factory) -> Path:
    """The same corpus the night after: one shard as it was, others changed, and a new one."""
    return change_corpus(corpus_of_many_blocks, tmp_path_factory.mktemp("changed"), ROWS)


@pytest.fixture(scope="session")
def many_blocks(corpus_of_many_blocks, tiny_model) -> Callable[..., JobConfig]:
    """Returns jobs over one corpus of 1,200 records, in 308 blocks of several calls each."""

    def job(output: Path, inputs: Path = corpus_of_many_blocks, **changes: object) -> JobConfig:
        settings = {
            "engine": "local",
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
    run_job(many_blocks(output, engine="plain"))
    assert len(commits(output)) == BLOCKS
    return Dataset.latest(output)


@pytest.fixture(scope="session")
def undisturbed_update(many_blocks, undisturbed, changed_corpus, tmp_path_factory) -> Dataset:
    """The dataset of the changed corpus, where the other one was there before."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    shutil.copytree(undisturbed.folder.parent, output)
    run_job(many_blocks(output, engine="plain", inputs=changed_corpus))
    return Dataset.latest(output)


@pytest.fixture
def start_run() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `embedkit run --json` of a job; whatever still runs after the test is killed."""
    started: list[subprocess.Popen] = []

    def run(job: JobConfig, **options: object) -> subprocess.Popen:
        arguments = ["--json", "--progress", "none", "--log-format", "json"]
        process = start("run", *flags(job), *arguments, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            left = family(process)
            process.kill()
            kill_all(left)
        process.communicate()


@pytest.fixture(scope="module")
def small_blocks_model(tiny_model: str) -> Iterator[str]:
    tokenizer = Tokenizer.from_file(f"{tiny_model}/tokenizer.json")
    with small_blocks(tokenizer):
        yield tiny_model


@pytest.fixture(scope="module")
def nightly(
    small_blocks_model: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobConfig, dict[str, bytes]]:
    """A job over two files, of which the second has changed, and the root of its last run."""
    corpus = tmp_path_factory.mktemp("corpus")
    write_first_night(corpus)
    place = MemoryPlace()
    place.clear()
    job = tiny_job(
        small_blocks_model, corpus, Path("unused"),
        id_column="id", metadata_columns=(), chunk="tokens", chunk_tokens=8,
        block_rows=3, split_bytes=256, max_reject_share=1.0,
    )  # fmt: skip
    run_job(job.model_copy(update={"output": place.root}))
    before = contents(place.root)
    write_second_night(corpus)
    return job, before


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder of this machine whose files need not wait for a disk, where there is one."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def make_place(request: pytest.FixtureRequest, in_memory: Path) -> Callable[[str], Place]:
    """Makes the place of a kind of store."""
    makers = {
        "memory": MemoryPlace,
        "local": lambda: LocalPlace(str(in_memory / "out")),
        "s3": lambda: S3Place(request.getfixturevalue("bucket")),
        "gcs": lambda: GcsPlace(request.getfixturevalue("gcs")),
    }
    return lambda kind: makers[kind]()
