"""Slow: nights on a cluster in which little changed; what did not is copied there, never read."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from copied import check_copied, spoiled
from processes import wait_until
from raylets import Run, losses
from running import Dataset, flags, records, run_process, tiny_job, write_corpus, write_jsonl

from embedkit.config import JobConfig
from embedkit.dataset.version import Version

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

FILES, ROWS = 12, 40
DOCUMENTS = FILES * ROWS


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "in", FILES, ROWS)


@pytest.fixture
def make(tiny_model: str, tmp_path: Path, corpus: Path) -> Callable[..., JobConfig]:
    def job(version: str, output: str = "out", **changes: object) -> JobConfig:
        settings = {"id_column": "id", "block_rows": 8, "version": version}
        return tiny_job(tiny_model, corpus, tmp_path / output, **(settings | changes))

    return job


@pytest.fixture
def on_cluster(cluster) -> dict[str, object]:
    cluster.resize(2)
    return {"engine": "ray", "ray_address": cluster.address, "encoders": 1, "workers": 2}


def said_of_copies(run: Run) -> tuple[int, int, int]:
    """How many of how many splits, and how many rows, a run says that it copied."""
    (line,) = [line for line in run.messages if line.startswith("copied ")]
    found = re.match(r"copied (\d+) of (\d+) splits, (\d+) rows", line)
    assert found is not None, line
    return int(found[1]), int(found[2]), int(found[3])


def test_two_nights_with_one_file_changed_in_each(
    cluster, on_cluster, make, corpus, start_run, tmp_path
):
    assert start_run(make("v0", **on_cluster)).end()["rows_encoded"] == DOCUMENTS
    for night, changed in ((1, 3), (2, 7)):
        name = f"shard-{changed}.jsonl"
        rows = records(ROWS - 1, changed * ROWS)
        write_jsonl(corpus / name, [*rows, *records(1, 10_000 + night)])
        done = run_process("run", *flags(make("v0", f"full{night}")), timeout=600)
        assert done.returncode == 0, done.stderr
        full = Dataset.latest(tmp_path / f"full{night}")
        with spoiled(corpus, but=name):
            run = start_run(make(f"v{night}", **on_cluster))
            result = run.end()
        # Of the file that is read, the rows that are what they were are known as well.
        assert (result["rows_reused"], result["rows_encoded"]) == (DOCUMENTS - 1, 1)
        assert (result["rejects"], losses(run)) == (0, [])
        copies = check_copied(Version(str(tmp_path / "out"), f"v{night}"), full, changed)
        splits, all_splits, rows_copied = said_of_copies(run)
        assert (splits < all_splits, rows_copied) == (True, DOCUMENTS - ROWS)
        print(f"\nnight {night}: {splits} of {all_splits} splits, {copies} parts copied")
    wait_until(lambda: not cluster.actors())


def test_a_night_in_which_nothing_changed(on_cluster, make, corpus, start_run, tmp_path):
    start_run(make("v0", **on_cluster)).end()
    with spoiled(corpus):
        run = start_run(make("v1", **on_cluster))
        result = run.end()
    splits, all_splits, rows = said_of_copies(run)
    assert (splits, rows) == (all_splits, DOCUMENTS)
    assert (result["rows_reused"], result["tokens_encoded"]) == (DOCUMENTS, 0)
    check_copied(Version(str(tmp_path / "out"), "v1"), Dataset(tmp_path / "out" / "v0"))


def test_a_node_that_is_lost_while_parts_are_copied(
    cluster, on_cluster, make, corpus, start_run, tmp_path
):
    """Another one goes on with what it was at."""
    start_run(make("v0", block_rows=1, **on_cluster)).end()
    commits = tmp_path / "out" / "v1" / "_meta" / "commits"

    def done() -> int:
        return len(list(commits.iterdir())) if commits.is_dir() else 0

    with spoiled(corpus):
        run = start_run(make("v1", block_rows=1, **on_cluster))
        run.wait_until(lambda: done() > DOCUMENTS // 8)
        cluster.remove(cluster.nodes[0])
        print(f"\na node was lost when {done()} of {DOCUMENTS} parts had been copied")
        result = run.end()
    assert (result["rows"], result["tokens_encoded"]) == (DOCUMENTS, 0)
    check_copied(Version(str(tmp_path / "out"), "v1"), Dataset(tmp_path / "out" / "v0"))
