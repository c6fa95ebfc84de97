"""Noticing that a Ray of this process's own has lost one of the processes that it consists of.

Ray itself waits: a driver without its raylet for good, and one without its GCS for a minute, after
which it ends the process.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import ray

from embedkit.actors import pool_use
from embedkit.actors.descendants import descendants, end

_NEEDED = ("raylet", "gcs_server")
_POLL_SECONDS = 0.5
_STANDSTILL_SECONDS = 20.0


@contextmanager
def ray_watched(pool: str) -> Iterator[None]:
    """Has a pool given up as soon as the Ray that this process has started is lost.

    Args:
        pool: Name that the pool has in all processes.
    """
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(pool, over), name="watch-ray", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(pool: str, over: threading.Event) -> None:
    needed = _needed_processes()
    ran = dict.fromkeys(needed, time.monotonic())
    while not over.wait(_POLL_SECONDS):
        now = time.monotonic()
        for kind, process in needed.items():
            if not _stands_still(process):
                ran[kind] = now
            what = _end_of(process)
            if what is None and now - ran[kind] > _STANDSTILL_SECONDS:
                what = f"has stood still for {_STANDSTILL_SECONDS:.0f} s"
            if what is not None:
                pool_use.lose(
                    pool,
                    f"Ray on this machine was lost: its {kind} {what}; run the same command again "
                    "to resume",
                )
                _end_all(list(needed.values()))
                return


def _needed_processes() -> dict[str, "Popen[bytes]"]:
    """Returns what this process has started of its Ray; nothing where it has joined another's."""
    started: dict[str, list[Any]] = ray._private.worker._global_node.all_processes
    return {kind: started[kind][0].process for kind in _NEEDED if kind in started}


def _end_all(processes: list["Popen[bytes]"]) -> None:
    """Ends what is left of a Ray, which would wait for the rest, and whoever calls it as well."""
    below = set().union(*(descendants(one.pid) for one in processes))
    for one in processes:
        one.kill()
    end(below)


def _end_of(process: "Popen[bytes]") -> str | None:
    code = process.poll()
    if code is None:
        return None
    if code == -signal.SIGKILL:
        return "was killed, as the system does where memory runs out"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _stands_still(process: "Popen[bytes]") -> bool:
    """Whether a process was stopped by a signal, and not yet told to go on."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"
