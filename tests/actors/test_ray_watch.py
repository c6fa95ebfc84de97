"""A pool is given up as soon as a process that its Ray consists of is gone or stands still."""

import signal
import subprocess
from collections.abc import Iterator

import pytest
from processes import wait_until

from embedkit.actors import pool_use, ray_watch
from embedkit.errors import EncoderError


@pytest.fixture
def raylet(monkeypatch) -> Iterator[subprocess.Popen]:
    """A process in the place of a raylet."""
    process = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr(ray_watch, "_needed_processes", lambda: {"raylet": process})
    monkeypatch.setattr(ray_watch, "_POLL_SECONDS", 0.02)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "its raylet was killed, as the system does where memory runs out; run"),
        (signal.SIGSEGV, "its raylet ended by SIGSEGV; run"),
        (signal.SIGSTOP, "its raylet has stood still for 0 s; run"),
    ],
)
def test_whoever_waits_is_told_what_was_lost(raylet, number, said, monkeypatch):
    monkeypatch.setattr(ray_watch, "_STANDSTILL_SECONDS", 0.2)
    name = f"watched-{number}"
    with ray_watch.ray_watched(name):
        pool_use.go_on(name)
        raylet.send_signal(number)
        wait_until(lambda: pool_use.is_lost(name))
        with pytest.raises(EncoderError, match=said):
            pool_use.go_on(name)
    pool_use.end(name)
    with pytest.raises(EncoderError, match=said), pool_use.inside(name):
        raise AssertionError("inside")


def test_one_that_is_told_to_go_on_is_not_lost(raylet, monkeypatch):
    monkeypatch.setattr(ray_watch, "_STANDSTILL_SECONDS", 0.5)
    with ray_watch.ray_watched("goes-on"):
        for _ in range(3):
            raylet.send_signal(signal.SIGSTOP)
            wait_until(lambda: ray_watch._stands_still(raylet))
            raylet.send_signal(signal.SIGCONT)
            wait_until(lambda: not ray_watch._stands_still(raylet))
    assert not pool_use.is_lost("goes-on")
