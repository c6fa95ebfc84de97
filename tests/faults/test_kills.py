"""Processes of a run, really killed: encoders, the driver; up to ten of them under `soak`."""

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from processes import (
    alive,
    command,
    commits,
    family,
    one_encoder,
    wait_for_commits,
    wait_until,
)
from running import Dataset, last_error

from embedkit.dataset.committed import CommitRecord, committed
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job

pytestmark = pytest.mark.timeout(900)

ANYBODY = ["encoder", "driver", "SIGTERM", "SIGINT"]


def finished(process: subprocess.Popen) -> dict:
    """Waits for a run that ends well and returns its result."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return json.loads(out)


def by_encoder(output: Path, what: str) -> int:
    """What the encoder processes of the run that completed a version counted themselves."""
    (report,) = output.glob("*/report/report.json")
    return sum(one[what] for one in json.loads(report.read_text())["run"]["by_encoder"])


def check_equal(output: Path, undisturbed: Dataset) -> None:
    """The same part files, and so no id lost or doubled, and nothing left over."""
    dataset = Dataset.latest(output)
    assert dataset.part_hashes == undisturbed.part_hashes
    dataset.check_accounts(1200)
    names = {path.name for path in output.iterdir()}
    assert names == {".tmp", ".numbers", dataset.folder.name, "LATEST"}
    # What a killed driver was writing stays there for an hour, under a name that no reader takes.
    assert not list((output / ".tmp").glob("*.parquet"))


def before_the_end(output: Path) -> dict[str, CommitRecord]:
    """What a run has left: no complete version, and every part that stands whole and known."""
    assert not (output / "LATEST").exists()
    (folder,) = [path for path in output.iterdir() if path.name != ".tmp"]
    assert not (folder / "_SUCCESS").exists()
    ids = [
        value
        for part in (folder / "data").glob("*.parquet")
        for value in pq.read_table(part, columns=["id"])["id"].to_pylist()
    ]
    assert len(ids) == len(set(ids))
    return committed(Version(str(output), folder.name))


def serves_or_encodes(process: psutil.Process) -> bool:
    """Whether a process is Ray's server or raylet, or an encoder.

    Ray's agents look for their raylet once a minute, and leave when it has gone.
    """
    said = command(process)
    return "/gcs_server" in said or "/raylet/raylet" in said or said.startswith("ray::Encoder")


@pytest.mark.soak
def test_encoders_killed_three_times_in_one_run(many_blocks, undisturbed, start_run, tmp_path):
    job = many_blocks(tmp_path / "out")
    run = start_run(job)
    encoder, killed = None, []
    for blocks in (5, 60, 120):
        wait_for_commits(tmp_path / "out", blocks, run)
        encoder = one_encoder(run, besides=encoder)
        # Another process by the same name has answered since the one before it was killed.
        progress = len(commits(tmp_path / "out"))
        wait_for_commits(tmp_path / "out", progress + 5, run)
        encoder.send_signal(signal.SIGKILL)
        killed.append(encoder.pid)
        wait_until(lambda gone=encoder: not alive(gone), run)
    assert len(commits(tmp_path / "out")) < 290
    result = finished(run)
    assert len(set(killed)) == 3
    check_equal(tmp_path / "out", undisturbed)
    assert (result["rows"], result["rejects"], result["rows_resumed"]) == (1200, 0, 0)
    assert result["tokens_encoded"] == undisturbed.manifest["tokens_encoded"]
    # A killed process takes what it counted since it was last asked with it.
    assert 0 < by_encoder(tmp_path / "out", "tokens") <= result["tokens_encoded"]


@pytest.mark.soak
def test_the_driver_killed_and_then_told_to_stop(many_blocks, undisturbed, start_run, tmp_path):
    """Two runs end before their time; each leaves no process, and the next does only the rest."""
    output = tmp_path / "out"
    job = many_blocks(output)

    run = start_run(job)
    wait_for_commits(output, 20, run)
    left = family(run)
    cluster = [one for one in left if serves_or_encodes(one)]
    assert len(cluster) >= 3
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    wait_until(lambda: not any(map(alive, cluster)))
    first = before_the_end(output)
    assert len(first) >= 20

    run = start_run(job)
    wait_for_commits(output, len(first) + 40, run)
    left = family(run)
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=120)
    assert run.returncode == 4, err
    assert json.loads(out)["exit_code"] == 4
    assert last_error(err) == (
        "stopped by SIGTERM; run the same command again to resume from what is committed"
    )
    assert "Traceback" not in err
    wait_until(lambda: not any(map(alive, left)))
    second = before_the_end(output)
    assert {name: second[name] for name in first} == first
    assert len(second) >= len(first) + 40

    standing = {path: path.stat().st_mtime_ns for path in output.glob("*/data/*")}
    result = finished(start_run(job))
    check_equal(output, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in standing} == standing
    assert result["rows_resumed"] == sum(record.rows for record in second.values())
    encoded_before = sum(record.tokens_encoded for record in second.values())
    whole = undisturbed.manifest["tokens_encoded"]
    assert result["tokens_encoded"] == whole - encoded_before
    assert by_encoder(output, "tokens") == result["tokens_encoded"]
    assert result["tokens"] == undisturbed.manifest["tokens"]

    again = finished(start_run(job))
    assert (again["tokens_encoded"], again["rows_resumed"]) == (0, 1200)
    assert again["version"] == result["version"]


@pytest.mark.soak
def test_killed_while_it_looks_for_repeated_ids(many_blocks, undisturbed, start_run, tmp_path):
    output = tmp_path / "out"
    job = many_blocks(output, engine="plain")
    run = start_run(job)
    wait_until(lambda: len(list(output.glob("*/_meta/ids/*"))) >= 3, run)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    assert before_the_end(output) == {}
    standing = {path: path.stat().st_mtime_ns for path in output.glob("*/_meta/ids/*")}
    # Another engine goes on with what it left, and looks at nothing twice.
    finished(start_run(job.model_copy(update={"engine": "local"})))
    check_equal(output, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in standing} == standing
    looked = {path.name: path.read_bytes() for path in output.glob("*/_meta/ids/*")}
    assert looked == {
        path.name: path.read_bytes() for path in undisturbed.folder.glob("_meta/ids/*")
    }


@pytest.mark.soak
def test_driver_and_encoder_killed_while_vectors_of_tokens_are_made(
    many_blocks, start_run, tmp_path
):
    of = {"granularity": "token", "store_tokens": True}
    run_job(many_blocks(tmp_path / "whole", engine="plain", **of))
    undisturbed = Dataset.latest(tmp_path / "whole")
    output = tmp_path / "out"
    job = many_blocks(output, **of)
    run = start_run(job)
    wait_for_commits(output, 20, run)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    first = before_the_end(output)
    assert len(first) >= 20
    run = start_run(job)
    wait_for_commits(output, len(first) + 20, run)
    encoder = one_encoder(run)
    encoder.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(encoder), run)
    result = finished(run)
    check_equal(output, undisturbed)
    assert result["rows_resumed"] == sum(record.rows for record in first.values())
    encoded = sum(record.tokens_encoded for record in first.values())
    assert result["tokens_encoded"] == undisturbed.manifest["tokens_encoded"] - encoded
    assert validate(Version(str(output), undisturbed.folder.name)).problems == ()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_up_to_ten_kills_at_random_moments(seed, many_blocks, undisturbed, start_run, tmp_path):
    output = tmp_path / "out"
    check_kills(seed, many_blocks(output), many_blocks(tmp_path / "whole"), undisturbed, start_run)
    check_equal(output, undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [3, 4])
def test_up_to_ten_kills_while_a_version_takes_rows_over(
    seed, many_blocks, undisturbed, undisturbed_update, changed_corpus, start_run, tmp_path
):
    jobs = [many_blocks(tmp_path / name, inputs=changed_corpus) for name in ("out", "whole")]
    for job in jobs:
        shutil.copytree(undisturbed.folder.parent, job.output)
    before = Dataset.latest(tmp_path / "out")
    check_kills(seed, *jobs, undisturbed_update, start_run, before.folder)
    dataset = Dataset.latest(tmp_path / "out")
    assert dataset.folder.name == undisturbed_update.folder.name
    assert dataset.part_hashes == undisturbed_update.part_hashes
    dataset.check_accounts(1200)
    assert before.part_hashes == undisturbed.part_hashes
    for folder in (before.folder, dataset.folder):
        assert validate(Version(str(folder.parent), folder.name)).problems == ()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["full", "update"])
@pytest.mark.parametrize("seed", range(5, 10))
def test_up_to_ten_kills_of_a_run_without_engines(
    seed, what, many_blocks, undisturbed, undisturbed_update, changed_corpus, start_run, tmp_path
):
    changes = {"engine": "plain"}
    if what == "update":
        changes["inputs"] = changed_corpus
    jobs = [many_blocks(tmp_path / name, **changes) for name in ("out", "whole")]
    before = None
    if what == "update":
        for job in jobs:
            shutil.copytree(undisturbed.folder.parent, job.output)
        before = Dataset.latest(tmp_path / "out").folder
    wanted = undisturbed if what == "full" else undisturbed_update
    targets = ["driver", "driver", "SIGTERM", "SIGINT"]
    check_kills(seed, *jobs, wanted, start_run, before, targets)
    dataset = Dataset.latest(tmp_path / "out")
    assert dataset.part_hashes == wanted.part_hashes
    dataset.check_accounts(1200)


def check_kills(seed, job, whole_job, undisturbed, start_run, before=None, targets=ANYBODY) -> None:
    """Kills a run, and those that resume it, until one of them has little left to do."""
    choose = random.Random(seed)
    output = Path(job.output)

    def done() -> int:
        return sum(path.parents[2] != before for path in output.glob("*/_meta/commits/*.json"))

    start = time.monotonic()
    finished(start_run(whole_job))
    whole = time.monotonic() - start
    start = time.monotonic()
    run, encoder, kills, everyone = start_run(job), None, [], []
    # A quick machine has too few blocks left for the last kills: the run would end before them.
    while len(kills) < 10 and done() < len(undisturbed.parts) - 60:
        # Also 0 blocks further: while the run, or a new encoder, is still starting.
        wanted = done() + choose.randint(0, 15)
        wait_until(lambda wanted=wanted: done() >= wanted, run)
        time.sleep(choose.random() * choose.choice([0.01, 1]))
        target = choose.choice(targets)
        if target == "encoder":
            encoder = one_encoder(run, besides=encoder)
            encoder.send_signal(signal.SIGKILL)
        else:
            left = family(run)
            number = signal.SIGKILL if target == "driver" else signal.Signals[target]
            run.send_signal(number)
            run.wait(120)
            everyone += left
            run = start_run(job)
        kills.append(target)
    result = finished(run)
    assert len(kills) >= 5
    lost = (time.monotonic() - start - whole) / len(kills)
    print(f"\nseed {seed}: {kills}, undisturbed {whole:.1f} s, lost per kill {lost:.1f} s")
    wait_until(lambda: not any(map(alive, everyone)))
    assert result["rows"] == 1200


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_what_a_killed_encoder_costs(many_blocks, undisturbed, start_run, tmp_path):
    """Time lost per kill: a process to start and a model to load, and the calls in flight."""
    seconds = {}
    for kills in (0, 3):
        output = tmp_path / f"out-{kills}"
        start = time.monotonic()
        run = start_run(many_blocks(output))
        encoder = None
        for number in range(kills):
            wait_for_commits(output, 40 + 40 * number, run)
            encoder = one_encoder(run, besides=encoder)
            encoder.send_signal(signal.SIGKILL)
        finished(run)
        seconds[kills] = time.monotonic() - start
        check_equal(output, undisturbed)
    lost = (seconds[3] - seconds[0]) / 3
    print(f"\nundisturbed {seconds[0]:.1f} s; {lost:.1f} s lost per killed encoder")
    assert lost < 60
