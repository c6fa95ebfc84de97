"""SIGINT and SIGTERM at any moment, from the first second of a command to its last."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from processes import alive, catches, family, wait_until
from running import Dataset, embedkit_command, flags, one_line, start, tiny_job, write_corpus

from embedkit.config import JobConfig

pytestmark = pytest.mark.timeout(900)
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Engines, encoders and their servers go within this; Ray's agents look once in a while.
BOUND = 30.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), shards=2, rows=60)


def stop(process: subprocess.Popen, number: int, moment: float) -> bool:
    """Sends a signal after so many seconds; returns whether the process had not ended by then.

    Whenever it comes, the process ends with one line and 4, or with 0 and none, and leaves nothing.
    """
    started: list[psutil.Process] = []
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        started = family(process)
        process.send_signal(number)
    began = time.monotonic()
    out, err = process.communicate(timeout=120)
    errors = [line for line in err.splitlines() if " INFO " not in line]
    if process.returncode == 4:
        line = one_line("\n".join(errors))
        assert line == (
            f"embedkit: stopped by {signal.Signals(number).name}; run the same command again to "
            "resume from what is committed"
        )
    else:
        assert (process.returncode, errors) == (0, []), (process.returncode, out, err)
    assert time.monotonic() - began < BOUND
    wait_until(lambda: not any(map(alive, started)))
    return process.returncode == 4


def heard_of(process: subprocess.Popen) -> None:
    """Waits until a process hears of signals, which Python by itself does not for 50 ms."""
    wait_until(lambda: catches(process, *SIGNALS), process)


def moments(seed: int, count: int, whole: float) -> Iterator[tuple[int, float]]:
    """Signals and the seconds at which they are sent, two in five of them near an end."""
    choose = random.Random(seed)
    for number in range(count):
        share = choose.random() * (0.15 if number % 5 == 0 else 1.0)
        share = 1.0 - share if number % 5 == 1 else share
        yield SIGNALS[number % 2], share * whole


def whole_run(job: JobConfig) -> float:
    """Seconds of an undisturbed run."""
    began = time.monotonic()
    process = start("run", *flags(job))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return time.monotonic() - began


def begun(*arguments: str) -> subprocess.Popen:
    process = start(*arguments)
    heard_of(process)
    return process


def soaked(job: JobConfig, seed: int, count: int) -> None:
    """Stops runs of a job at so many moments, and finishes the last with the same command."""
    whole = whole_run(job.model_copy(update={"output": f"{job.output}-whole"}))
    stopped = 0
    for number, moment in moments(seed, count, whole):
        if stop(begun("run", *flags(job)), number, moment):
            stopped += 1
        else:
            # What is complete has nothing left that could be stopped.
            shutil.rmtree(job.output)
    assert stopped >= count // 3
    process = start("run", *flags(job))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found, expected = (Dataset.latest(root) for root in (job.output, f"{job.output}-whole"))
    assert found.part_hashes == expected.part_hashes
    found.check_accounts(120)


@pytest.mark.soak
def test_a_run_without_engines_is_stopped_at_any_moment(tiny_model, corpus, tmp_path):
    soaked(tiny_job(tiny_model, corpus, tmp_path / "out", id_column="id"), seed=1, count=3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_by_beam_and_ray_is_stopped_at_any_moment(tiny_model, corpus, tmp_path):
    job = tiny_job(tiny_model, corpus, tmp_path / "out", id_column="id", engine="local")
    soaked(job, seed=2, count=40)


@pytest.fixture(scope="module")
def root(tiny_model, corpus, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("root")
    whole_run(tiny_job(tiny_model, corpus, output))
    return output


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", ["info", "plan", "search", "validate"])
@pytest.mark.few(3)
def test_any_other_command_is_stopped(tiny_model, corpus, root, command, number):
    arguments = {
        "plan": [str(corpus), "--model", tiny_model, "--pooling", "mean"],
        "search": [str(root), "a word"],
    }.get(command, [str(root)])
    stop(begun(command, *arguments), number, random.Random(number).random())


@pytest.mark.parametrize("number", SIGNALS)
def test_a_process_hears_of_signals_before_it_imports_what_is_heavy(number, tmp_path):
    """Under a hook that has every import of the command line last for good."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            time.sleep(600)\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "embedkit", "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heard_of(process)
    assert stop(process, number, 0.5)


def test_the_script_that_is_installed_is_the_one_that_hears():
    from importlib import metadata

    # An editable install may stand beside what an earlier build left in the checkout.
    scripts = metadata.entry_points(group="console_scripts", name="embedkit")
    assert {script.value for script in scripts} == {"embedkit.__main__:main"}
    assert embedkit_command()[0] == sys.executable
