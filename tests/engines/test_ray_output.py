"""What Ray prints from its thread is logged; a program's own output is left alone."""

import logging
import os
import sys
import threading
from contextlib import ExitStack

import pytest

from embedkit.engines.ray_output import ray_says_in_the_log


def say(text: str, thread: str) -> None:
    speaker = threading.Thread(target=print, args=(text,), name=thread)
    speaker.start()
    speaker.join()


def test_rays_lines_go_to_the_log_and_others_to_stdout(capsys, caplog):
    with caplog.at_level(logging.INFO, "embedkit"), ray_says_in_the_log():
        say("\x1b[33m(raylet)\x1b[0m A worker died.\nTo troubleshoot, look.", _RAYS_THREAD)
        say("a step prints", "worker")
        print("so does the program", end="")
        assert sys.stdout.isatty() is False
    assert caplog.messages == ["Ray says: (raylet) A worker died. To troubleshoot, look."]
    assert capsys.readouterr().out == "a step prints\nso does the program"
    say("after the run", _RAYS_THREAD)
    assert capsys.readouterr().out == "after the run\n"


def test_rays_report_of_a_lost_node_is_one_short_line(caplog):
    with caplog.at_level(logging.INFO, "embedkit"), ray_says_in_the_log():
        say("The node has been marked dead\n" + "  log line of the raylet\n" * 200, _RAYS_THREAD)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Ray says: The node has been marked dead log line")
    assert len(caplog.messages[0]) < 350


def test_stdout_is_given_back_whichever_of_two_runs_ends_first():
    before = sys.stdout
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(ray_says_in_the_log())
        second.enter_context(ray_says_in_the_log())
        first.close()
    assert sys.stdout is before


@pytest.mark.parametrize("dedup", [None, "1"])
def test_stdout_and_the_environment_are_given_back_when_the_run_fails(monkeypatch, dedup):
    monkeypatch.delenv("RAY_DEDUP_LOGS", raising=False)
    if dedup is not None:
        monkeypatch.setenv("RAY_DEDUP_LOGS", dedup)
    before = sys.stdout, dict(os.environ)
    with pytest.raises(ZeroDivisionError), ray_says_in_the_log():
        assert os.environ["RAY_DEDUP_LOGS"] == (dedup or "0")
        raise ZeroDivisionError
    assert (sys.stdout, dict(os.environ)) == before


_RAYS_THREAD = "ray_listen_error_messages"
