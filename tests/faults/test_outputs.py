"""Outputs that fail, two runs at once, and bundles that run twice."""

import hashlib
import json
import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from processes import commits, wait_for_commits
from running import Dataset, flags, last_error, run_process, tiny_job, write_jsonl

from embedkit.dataset.committed import CommitRecord, committed
from embedkit.dataset.version import Version
from embedkit.encoders.local_client import LocalConnection
from embedkit.engines.run import run_job
from embedkit.flow.complete import complete_version
from embedkit.flow.prepare import prepare
from embedkit.reports.account import RunAccount
from embedkit.transforms.embed import EmbedBlocks
from embedkit.transforms.read import ReadCorpus

pytestmark = pytest.mark.timeout(900)


def noise(number: int, length: int) -> str:
    """A text that does not compress."""
    words = (hashlib.sha512(f"{number} {n}".encode()).hexdigest() for n in range(length))
    return " ".join(words)


@pytest.mark.soak
def test_a_file_system_that_takes_no_more(tiny_model, tmp_path, start_run):
    """The process may write no file beyond a size, which the parts of the second shard have."""
    corpus = tmp_path / "corpus"
    small = [{"id": f"a{n}", "text": f"one short text {n}"} for n in range(64)]
    write_jsonl(corpus / "a.jsonl", small)
    write_jsonl(
        corpus / "b.jsonl",
        [{"id": f"b{n}", "text": f"one long text {noise(n, 120)}"} for n in range(32)],
    )
    job = tiny_job(
        tiny_model, corpus, tmp_path / "out", id_column="id", store_text=True, split_bytes=1 << 20
    )
    limit = 60_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = start_run(job, preexec_fn=limited)
    out, err = run.communicate(timeout=240)
    assert (run.returncode, json.loads(out)["exit_code"]) == (4, 4)
    assert "Traceback" not in err
    line = last_error(err)
    assert str(tmp_path / "out") in line
    assert "File too large" in line
    (folder,) = [path for path in (tmp_path / "out").iterdir() if path.name != ".tmp"]
    assert len(commits(tmp_path / "out")) == 4
    assert not (tmp_path / "out" / "LATEST").exists()
    assert len(list((folder / "data").iterdir())) == 4
    assert not list((tmp_path / "out" / ".tmp").iterdir())

    done = run_process("run", *flags(job), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["rows_resumed"]) == (96, 64)
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(96)
    assert max(part.stat().st_size for part in dataset.parts) > limit
    run_job(job.model_copy(update={"output": str(tmp_path / "whole")}))
    assert dataset.part_hashes == Dataset.latest(tmp_path / "whole").part_hashes


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.soak
def test_a_full_disk_under_beam_and_ray(full_disk, many_blocks, undisturbed, start_run):
    job = many_blocks(full_disk / "out")
    run = start_run(job)
    out, err = run.communicate(timeout=240)
    assert (run.returncode, json.loads(out)["exit_code"]) == (4, 4)
    assert "Traceback" not in err
    assert "No space left on device" in err.splitlines()[-1]
    (folder,) = [path for path in (full_disk / "out").iterdir() if path.name != ".tmp"]
    done = committed(Version(str(full_disk / "out"), folder.name)).values()
    assert 0 < len(done) < 308
    grow = ["mount", "-o", "remount,size=64m", str(full_disk)]
    subprocess.run(grow, check=True, capture_output=True)
    result = json.loads(start_run(job).communicate(timeout=240)[0])
    assert result["rows_resumed"] == sum(record.rows for record in done)
    assert Dataset.latest(full_disk / "out").part_hashes == undisturbed.part_hashes


def test_an_output_that_cannot_be_written(many_blocks, tmp_path, start_run):
    """A file where the folder should be: the same for root, whom no permission stops."""
    (tmp_path / "out").write_text("not a folder")
    run = start_run(many_blocks(tmp_path / "out", engine="plain"))
    out, err = run.communicate(timeout=240)
    assert json.loads(out)["exit_code"] == 2
    assert run.returncode in (2, 4)
    assert str(tmp_path / "out") in last_error(err)


@pytest.mark.soak
def test_two_runs_of_one_job_at_once(many_blocks, undisturbed, start_run, tmp_path):
    output = tmp_path / "out"
    first = start_run(many_blocks(output))
    wait_for_commits(output, 3, first)
    # The engine changes no vector, so this is the same job.
    second = start_run(many_blocks(output, engine="plain"))
    results = []
    for run in (first, second):
        out, err = run.communicate(timeout=600)
        assert run.returncode == 0, err
        results.append(json.loads(out))
    dataset = Dataset.latest(output)
    assert dataset.part_hashes == undisturbed.part_hashes
    dataset.check_accounts(1200)
    assert [result["version"] for result in results] == [dataset.folder.name] * 2
    assert [result["rows"] for result in results] == [1200] * 2
    assert results[1]["rows_resumed"] >= 12


def noted(record: CommitRecord, notes: str) -> CommitRecord:
    """Notes every time that a record passes."""
    with open(notes, "a") as file:
        file.write(f"{record.block_id}\n")
    return record


@pytest.mark.soak
def test_bundles_that_run_three_times(many_blocks, undisturbed, tmp_path):
    job = prepare(many_blocks(tmp_path / "out"))
    pipeline = beam.Pipeline(runner=FnApiRunner(bundle_repeat=2))
    records = (
        pipeline
        | ReadCorpus(job.config, job.plan, job.make_chunker, version=None)
        | EmbedBlocks(job, LocalConnection(job.model), job.config.call_tokens)
    )
    _ = records | beam.Map(noted, str(tmp_path / "notes"))
    pipeline.run().wait_until_finish()
    passed = Counter((tmp_path / "notes").read_text().split())
    assert set(passed.values()) == {3}
    assert len(passed) == 308
    complete_version(job, RunAccount())
    dataset = Dataset.latest(tmp_path / "out")
    assert dataset.part_hashes == undisturbed.part_hashes
    dataset.check_accounts(1200)
