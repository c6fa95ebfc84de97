"""An output that goes wrong in the middle of a run: named in one line, and the next run goes on."""

import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from failing_store import Faults, Meanwhile
from fault_cases import Night

from embedkit.dataset import local_store
from embedkit.engines.run import run_job

TROUBLES = {
    "disk full": (errno.ENOSPC, "No space left on device"),
    "over quota": (errno.EDQUOT, "Disk quota exceeded"),
    "rights lost": (errno.EACCES, "Permission denied"),
    "read-only": (errno.EROFS, "Read-only file system"),
    "broken": (errno.EIO, "Input/output error"),
}


class _Os:
    """The module ``os``, some calls of which are refused from some call on."""

    def __init__(self, number: int, after: int) -> None:
        self._number, self._left = number, after

    def __getattr__(self, name: str) -> object:
        if name not in ("link", "fsync", "replace", "unlink"):
            return getattr(os, name)

        def call(*arguments: object) -> object:
            self._left -= 1
            # What was written aside can still be taken away.
            if self._left < 0 and name != "unlink":
                raise OSError(self._number, os.strerror(self._number))
            return getattr(os, name)(*arguments)

        return call


@contextmanager
def refused(number: int, after: int) -> Iterator[None]:
    """The disk refuses to write after some calls."""
    with patch.object(local_store, "os", _Os(number, after)):
        yield


def said_of(night: Night) -> str:
    """What a run that ends with an error says."""
    assert night.said is not None
    return night.said


@pytest.fixture
def local(nightly, make_place) -> Night:
    return Night(*nightly, make_place("local"))


def in_trouble(night: Night, number: int, message: str, after: int) -> None:
    """Has a run meet a disk that refuses, from one call on, until the next run."""
    night.begin()
    night.counts.cases += 1
    with refused(number, after):
        outcome = night.attempt(Faults(lambda *_: None))
    night.counts.outcomes[outcome] += 1
    if outcome != "finished":
        assert message in said_of(night)
        left = Path(night.place.root, ".tmp").iterdir()
        assert [file for file in left if not file.name.startswith("probe-")] == []
    night.check_reader()
    run_job(night.job)
    night.check_end()


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.few(2)
def test_a_disk_that_refuses_in_the_middle(local, trouble):
    number, message = TROUBLES[trouble]
    in_trouble(local, number, message, random.Random(trouble).randrange(20, 150))
    assert local.counts.outcomes["finished"] == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_disk_that_refuses_anywhere(local, trouble):
    for after in range(0, 10_000, 3):
        in_trouble(local, *TROUBLES[trouble], after)
        if local.counts.outcomes["finished"]:
            break
    print(f"\n{local.counts.line(f'local, {trouble}')}")
    assert local.counts.harm == (0, 0, 0)


def lose(night: Night, number: int, what: str) -> None:
    """Has the output, or the version in it, removed just before an operation of a run."""
    lost = Path(night.place.root, "" if what == "root" else night.name)
    night.begin()
    night.counts.cases += 1
    faults = Meanwhile(number, lambda: shutil.rmtree(lost, ignore_errors=True))
    outcome = night.attempt(faults)
    night.counts.outcomes[outcome] += 1
    run_job(night.job)
    night.check_data(anew=True)


@pytest.mark.parametrize("what", ["root", "version"])
def test_an_output_that_is_removed_in_the_middle(local, what):
    lose(local, random.Random(what).randrange(len(local.operations)), what)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["root", "version"])
def test_an_output_that_is_removed_anywhere(local, what):
    for number in range(len(local.operations)):
        lose(local, number, what)
    print(f"\n{local.counts.line(f'local, {what} removed')}")


@pytest.mark.parametrize("seconds", [-86_400.0, 86_400.0])
@pytest.mark.few(1)
def test_a_clock_that_is_set_meanwhile(local, seconds, monkeypatch):
    """It is set at the start, when half is committed, and before the version is completed."""
    now: Callable[[], float] = time.time
    for number in (0, len(local.operations) // 2, len(local.operations) - 60):
        local.begin()
        set_clock = lambda: monkeypatch.setattr(time, "time", lambda: now() + seconds)  # noqa: E731
        assert local.attempt(Meanwhile(number, set_clock)) == "finished"
        local.check_end()
        run_job(local.job)
        local.check_end()
        monkeypatch.undo()
