"""Python's own documentation, embedded and searched: the demo's questions find their functions."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from running import Dataset, flags, run_process, write_jsonl

from embedkit.engines.run import run_job
from embedkit.search.query import search_text
from pipelines.demo import QUERIES, demo_job

pytestmark = pytest.mark.timeout(900)

RIGHT = {
    "extract a zip archive": ("zipfile.", "shutil.unpack_archive", "zipimport."),
    "parse command line arguments": ("argparse", "optparse", "getopt", "cmd.Cmd.parseline"),
    "wait for several threads to finish": ("threading.", "concurrent.futures", "multiprocessing"),
}
"""Beginnings of the names of which the best answers are."""

BEST = {
    "extract a zip archive": "zipfile.ZipFile.extract",
    "parse command line arguments": "argparse.ArgumentParser",
    "wait for several threads to finish": "threading.",
}


def test_the_demo_asks_what_is_tested_here():
    assert set(QUERIES) == set(RIGHT) == set(BEST)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """The demo's corpus, made by a process of its own, as it imports all of the library."""
    folder = tmp_path_factory.mktemp("python-docs")
    command = [sys.executable, "-m", "pipelines.python_docs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder


def read(corpus: Path) -> list[dict[str, str]]:
    rows = [row for file in corpus.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    for file in corpus.glob("*.jsonl.gz"):
        rows += [json.loads(line) for line in gzip.open(file, "rt")]
    return rows


def check_searches(root: Path) -> None:
    for query in QUERIES:
        hits = search_text(str(root), query, k=3)
        print(f"\n{query}: {', '.join(f'{hit.id} {hit.score:.3f}' for hit in hits)}")
        assert hits[0].id.startswith(RIGHT[query])
        assert sum(hit.id.startswith(RIGHT[query]) for hit in hits) >= 2
        assert any(hit.id.startswith(BEST[query]) for hit in hits)


def test_the_corpus_is_what_it_says(corpus):
    rows = read(corpus)
    names = {row["name"] for row in rows}
    assert len(rows) == len(names) > 4000
    assert {"zipfile.ZipFile.extractall", "argparse", "topic:lambda"} <= names
    assert len(list(corpus.iterdir())) == 6


@pytest.mark.soak
def test_the_questions_over_a_tenth_of_the_corpus(corpus, tmp_path):
    """All documents of the modules in question, and a tenth of all others."""
    every = sorted(read(corpus), key=lambda row: row["name"])
    modules = {name.partition(".")[0] for names in RIGHT.values() for name in names}
    rows = [
        row
        for number, row in enumerate(every)
        if number % 10 == 0 or row["name"].partition(".")[0] in modules
    ]
    write_jsonl(tmp_path / "docs.jsonl", rows)
    job = demo_job(tmp_path / "docs.jsonl", tmp_path / "out")
    run_job(job.model_copy(update={"engine": "plain"}))
    Dataset.latest(tmp_path / "out").check_accounts(len(rows))
    check_searches(tmp_path / "out")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_whole_demo(corpus, tmp_path):
    job = demo_job(corpus, tmp_path / "out")
    done = run_process("run", *flags(job), "--json", timeout=900)
    assert done.returncode == 0, done.stderr
    print(f"\n{done.stdout}")
    Dataset.latest(tmp_path / "out").check_accounts(len(read(corpus)))
    check_searches(tmp_path / "out")
