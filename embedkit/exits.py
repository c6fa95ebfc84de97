"""How a process ends: an exit code for schedulers, a line for people, nothing left running."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from embedkit.errors import EmbedkitError, ResumableError
from embedkit.logs import say_error


class _Stopped(BaseException):
    """A signal; no library that catches what goes wrong with it may catch this."""


def run_to_exit(command: Callable[[], int | None]) -> NoReturn:
    """Runs a command and ends the process.

    An error of embedkit's own becomes one line and its exit code. SIGINT and SIGTERM unwind the
    command, so that it ends what it has started, and exit as resumable; a second one does not wait.

    Args:
        command: Returns an exit code, or None for 0.
    """
    try:
        with _stopped_by_signals():
            code = command()
    except _Stopped as stopped:
        _leave(
            ResumableError(
                f"stopped by {stopped}; run the same command again to resume from what is committed"
            )
        )
    except EmbedkitError as error:
        _leave(error)
    sys.exit(code or 0)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def leave_at_once(number: int, frame: FrameType | None) -> None:
        os._exit(ResumableError.exit_code)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, leave_at_once)
        raise _Stopped(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(error: EmbedkitError) -> NoReturn:
    say_error(str(error))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Worker threads may still be inside a call that nobody waits for any more.
    os._exit(error.exit_code)
