"""Runs of the real model over real corpora that several tests look at."""

import json
from dataclasses import dataclass

import pytest
from running import Dataset
from sentence_transformers import SentenceTransformer

from embedkit.completion import RunResult
from embedkit.config import JobConfig
from embedkit.engines.run import run_job


@dataclass(frozen=True)
class Run:
    """A finished run."""

    job: JobConfig
    result: RunResult
    dataset: Dataset


def run(job: JobConfig) -> Run:
    """Runs a job in this process."""
    return Run(job, run_job(job), Dataset.latest(job.output))


@pytest.fixture(scope="session")
def oracle(minilm) -> SentenceTransformer:
    return SentenceTransformer(minilm, device="cpu")


@pytest.fixture(scope="session")
def wikitext(shared_data) -> list[str]:
    """The paragraphs of WikiText-2, validation and test."""
    return [
        line.strip()
        for name in ("valid", "test")
        for line in (shared_data / "wikitext2" / f"{name}.txt").read_text().splitlines()
        if line.strip() and not line.startswith(" =")
    ]


@pytest.fixture(scope="session")
def cranfield(shared_data) -> dict[str, str]:
    """The abstracts of Cranfield by id; two of them are empty."""
    with (shared_data / "cranfield" / "corpus.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    return {record["id"]: record["text"] for record in records}


@pytest.fixture(scope="session")
def cranfield_run(shared_data, minilm, ray_session, tmp_path_factory) -> Run:
    """Cranfield as a user would embed it: every setting of the model and engine as it comes."""
    return run(
        JobConfig(
            inputs=(str(shared_data / "cranfield" / "corpus.jsonl"),),
            id_column="id",
            metadata_columns=("title", "author"),
            model=minilm,
            output=str(tmp_path_factory.mktemp("cranfield")),
            store_text=True,
            block_rows=200,
            split_bytes=1 << 18,
        )
    )
