"""Runs of the real model over real corpora that several tests look at."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Dataset, write_jsonl
from sentence_transformers import SentenceTransformer
from texts import paragraphs, topics_of_python

from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.reports.account import RunAccount


@dataclass(frozen=True)
class Run:
    """A finished run."""

    job: JobConfig
    result: RunAccount
    dataset: Dataset


def run(job: JobConfig) -> Run:
    """Runs a job in this process."""
    return Run(job, run_job(job), Dataset.latest(job.output))


@pytest.fixture(scope="session")
def oracle(minilm) -> SentenceTransformer:
    return SentenceTransformer(minilm, device="cpu")


def as_it_comes(corpus: Path, model: str, output: Path) -> JobConfig:
    """A job with every setting of the model and engine as a user gets it."""
    return JobConfig(
        inputs=(str(corpus),),
        id_column="id",
        metadata_columns=("title",),
        model=model,
        output=str(output),
        store_text=True,
        block_rows=200,
        split_bytes=1 << 16,
    )


@pytest.fixture(scope="session")
def prose_run(minilm, ray_session, tmp_path_factory) -> Run:
    """Paragraphs and some long texts, two of them empty, with all settings as given."""
    texts = [*paragraphs()[:580], *topics_of_python()[:20]]
    texts[470] = texts[594] = ""
    rows = [{"id": str(n), "title": text[:30], "text": text} for n, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("prose")
    write_jsonl(folder / "docs.jsonl", rows)
    return run(as_it_comes(folder / "docs.jsonl", minilm, folder / "out"))


@pytest.fixture(scope="session")
def cranfield(public_data) -> dict[str, str]:
    """The abstracts of Cranfield by id; two of them are empty."""
    with (public_data / "cranfield" / "corpus.jsonl").open() as file:
        records = [json.loads(line) for line in file]
    return {record["id"]: record["text"] for record in records}


@pytest.fixture(scope="session")
def cranfield_run(public_data, minilm, ray_session, tmp_path_factory) -> Run:
    """Cranfield, all of it, as a user would embed it."""
    corpus = public_data / "cranfield" / "corpus.jsonl"
    return run(as_it_comes(corpus, minilm, tmp_path_factory.mktemp("cranfield")))
