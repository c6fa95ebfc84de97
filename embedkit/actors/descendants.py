"""The processes that this one has started, and what those have started."""

import os
import signal
from typing import NamedTuple


class Process(NamedTuple):
    """A process that no other one is taken for.

    Attributes:
        pid: Its number, which another process may have later.
        started: When it was started, in the kernel's ticks.
    """

    pid: int
    started: int


def descendants(of: int | None = None) -> set[Process]:
    """Returns all that run below a process; nothing where the system has no ``/proc``.

    Args:
        of: The process; this one unless given.
    """
    children: dict[int, list[Process]] = {}
    for pid in _pids():
        if (stat := _stat(pid)) is not None:
            parent, started = stat
            children.setdefault(parent, []).append(Process(pid, started))
    found: set[Process] = set()
    below = [of or os.getpid()]
    while below:
        fresh = set(children.get(below.pop(), ())) - found
        found |= fresh
        below += [one.pid for one in fresh]
    return found


def end(processes: set[Process]) -> None:
    """Kills those of some processes that still run."""
    for one in processes:
        stat = _stat(one.pid)
        if stat is None or stat[1] != one.started:
            continue
        try:
            os.kill(one.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> tuple[int, int] | None:
    """Returns a process's parent and its start, or None where it does not run."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # A process may have any name, with spaces and brackets; it stands between brackets.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[1]), int(fields[19])
