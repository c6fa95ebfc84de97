"""What tests of real processes share: waiting for what can be seen, and finding who runs."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATIENCE = 240.0
"""Seconds after which something will not happen any more, on a machine that does other things."""


MEGABYTES = """
from pathlib import Path

def megabytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{what}:"))
"""
"""Begins a program that measures its memory: ``megabytes("VmRSS")`` now, ``("VmHWM")`` at most.

``ru_maxrss`` counts the process that started it as well, so it measures nothing among other tests.
"""


def wait_until(condition: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    """Waits for a condition; fails when the process ends before, or patience does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def commits(root: Path) -> set[str]:
    """The blocks committed below a root, in whatever version."""
    return {path.stem for path in root.glob("*/_meta/commits/*.json")}


def wait_for_commits(root: Path, count: int, process: subprocess.Popen) -> None:
    """Waits until so many blocks are committed."""
    wait_until(lambda: len(commits(root)) >= count, process)


def catches(process: subprocess.Popen, *numbers: int) -> bool:
    """Whether a process has handlers of all these signals, in Python or below it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("SigCgt:")]
    mask = sum(1 << (number - 1) for number in numbers)
    return int(line.split()[1], 16) & mask == mask


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """All that a process has started, and what those have started."""
    return psutil.Process(process.pid).children(recursive=True)


def command(process: psutil.Process) -> str:
    """What a process calls itself."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def encoders(process: subprocess.Popen) -> list[psutil.Process]:
    """The encoder processes of a run."""
    return [child for child in family(process) if command(child).startswith("ray::EncoderActor")]


def one_encoder(process: subprocess.Popen, besides: psutil.Process | None = None) -> psutil.Process:
    """Waits for the encoder process of a run, another one than the one named."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found[:] = [one for one in encoders(process) if one != besides]
        return bool(found)

    wait_until(there, process)
    return found[0]


def kill_all(processes: list[psutil.Process]) -> None:
    """Ends what a failed test left."""
    for process in processes:
        if alive(process):
            process.kill()
