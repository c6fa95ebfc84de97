"""A pool is ended under no thread that is inside its calls, and none gets in afterwards."""

import threading

import pytest

from embedkit.actors import pool_use
from embedkit.errors import EncoderError


def test_the_end_waits_for_those_inside_and_they_are_told():
    entered, left = threading.Event(), threading.Event()
    told: list[str] = []

    def work() -> None:
        try:
            with pool_use.inside("pool-1"):
                entered.set()
                while True:
                    pool_use.go_on("pool-1")
        except EncoderError as error:
            told.append(str(error))
        left.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(10)
    pool_use.end("pool-1")
    assert left.wait(10)
    thread.join()
    assert told == ["the run that owned the encoders has ended, start it again"]


def test_nobody_gets_in_after_the_end():
    pool_use.end("pool-2")
    with pytest.raises(EncoderError, match="has ended"), pool_use.inside("pool-2"):
        raise AssertionError("inside")
    with pool_use.inside("pool-3"):
        pool_use.go_on("pool-3")


def test_one_that_stays_inside_does_not_hold_the_end_up_for_ever(monkeypatch):
    monkeypatch.setattr(pool_use, "_LEAVE_SECONDS", 0.05)
    with pool_use.inside("pool-4"):
        pool_use.end("pool-4")
        with pytest.raises(EncoderError):
            pool_use.go_on("pool-4")
