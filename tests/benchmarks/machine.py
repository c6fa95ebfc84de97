"""The machine that is measured: its name, its libraries, and what else runs on it."""

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil

from embedkit.encoders.hardware import processor_name
from embedkit.engines.progress import repeated

LIBRARIES = ("torch", "openvino", "sentence-transformers", "transformers", "apache-beam", "ray")
_QUIET_PERCENT = 10.0


def describe_machine() -> str:
    """Returns the machine and the libraries in two lines."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {version_of(name)}" for name in LIBRARIES)
    return f"{processor_name()}, {memory:.0f} GiB\n{versions}"


def version_of(name: str) -> str:
    """Returns the version of a distribution, or ``absent``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def wait_until_quiet(seconds: float) -> None:
    """Waits until the processor is nearly idle, but not longer than the given time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and psutil.cpu_percent(1.0) > _QUIET_PERCENT:
        pass


@dataclass
class Usage:
    """What a process and its descendants used while they were watched.

    Attributes:
        seconds: How long they were watched.
        foreign: Share of all cores that others used meanwhile: a measure of the noise.
        peaks: Peak of each quantity that the watcher was asked to sample.
    """

    seconds: float = 0.0
    foreign: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)


def family(pid: int) -> list[psutil.Process]:
    """Returns a process and its descendants, as far as they still live."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def watched(pid: int, interval: float = 0.5, sample=None) -> Iterator[Usage]:
    """Watches a process with its descendants while the body runs.

    Args:
        pid: The process.
        interval: Seconds between samples.
        sample: Called with the processes; returns quantities by name, whose peaks are kept.
    """
    usage = Usage()
    used: dict[int, float] = {}

    def look() -> None:
        processes = family(pid)
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            used[process.pid] = times.user + times.system
        for name, value in (sample(processes) if sample else {}).items():
            usage.peaks[name] = max(usage.peaks.get(name, 0.0), value)

    begun, busy = time.monotonic(), busy_seconds()
    look()
    before = sum(used.values())
    try:
        with repeated(look, interval, "watch"):
            yield usage
    finally:
        usage.seconds = time.monotonic() - begun
        own = sum(used.values()) - before
        foreign = max(0.0, busy_seconds() - busy - own)
        usage.foreign = foreign / (usage.seconds * (os.cpu_count() or 1))


def busy_seconds() -> float:
    """Returns the seconds that all cores of the machine together have worked."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def run_once(module: str, *arguments: object) -> Any:
    """Measures something in a process of its own.

    Args:
        module: Runs it, and prints one JSON object.
        arguments: What it is given.

    Returns:
        What it printed; and, unless it says so itself, its seconds as ``wall``, those of all cores
        as ``cpu``, its start included, and the share that others used as ``foreign``.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with watched(process.pid) as usage:
        printed, said = process.communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": usage.seconds, "cpu": used, "foreign": usage.foreign, **json.loads(printed)}
