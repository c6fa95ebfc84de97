"""How a process ends: an exit code for schedulers, a line for people, nothing left running."""

import atexit
import logging
import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from embedkit.actors.descendants import descendants, end
from embedkit.cli.stopping import GRACE_SECONDS, Stopped, Stopping, leave_after
from embedkit.cli.surroundings import (
    check_surroundings,
    mend_streams,
    this_machine_without_proxy,
    threads_that_are_numbers,
)
from embedkit.errors import EmbedkitError, NotPublishedError, ResumableError
from embedkit.errors.foreign import as_ours, one_line
from embedkit.errors.urls import remember_secrets

# What the last line may take, where nobody reads it or another thread holds its stream.
_LAST_SECONDS = 3.0
_MOST_LIKELY_WITHIN = 0.2

_WHOLE_OR_NOT = ("convert", "export", "train")
"""Commands that commit nothing on the way."""


def run_to_exit(command: Callable[[], int | None]) -> NoReturn:
    """Runs a command and ends the process.

    An error becomes one line and its exit code; with ``--json`` among the arguments also an object
    on stdout. SIGINT and SIGTERM unwind the command, so that it ends what it has started, and exit
    as resumable; a second one, or unwinding that takes too long, ends it at once.

    Args:
        command: Returns an exit code, or None for 0.
    """
    mend_streams()
    for argument in sys.argv[1:]:
        remember_secrets(argument.partition("=")[2] if argument.startswith("-") else argument)
    ending = _Ending()
    try:
        ending.after(command)
    except Stopped as stopped:
        # It came while the command's own end was being looked at; there is no third.
        ending.by(stopped)


class _Ending:
    """The end of this process, which comes once, from whatever thread."""

    def __init__(self) -> None:
        self._leaving = threading.Lock()
        self._code: int | None = None
        self._before = descendants()
        self._started = set(self._before)
        self._stopping = Stopping(self._remember, self._give_up)
        threading.excepthook = self._in_a_thread
        # A stream that takes no more is no reason for pages about it.
        logging.raiseExceptions = False
        # The first to be registered is the last to run.
        atexit.register(self._finally)

    def after(self, command: Callable[[], int | None]) -> NoReturn:
        """Runs the command and ends the process, however it ends."""
        try:
            self._stopping.begin()
            check_surroundings()
            this_machine_without_proxy()
            threads_that_are_numbers()
            code = command() or 0
            self._stopping.over()
            sys.stdout.flush()
        except BaseException as error:  # noqa: BLE001 - none may leave the process as a traceback
            self.by(error)
        self._done(code)

    def by(self, error: BaseException) -> NoReturn:
        """Ends the process as an error does."""
        self._stopping.over()
        # A library may have raised in the signal's place, before the signal was heard of.
        name = self._stopping.asked(
            0.0 if isinstance(error, EmbedkitError) else _MOST_LIKELY_WITHIN
        )
        if name or isinstance(error, (Stopped, KeyboardInterrupt)):
            self._leave(_stopped(name or "SIGINT"))
        if isinstance(error, SystemExit):
            self._done(_code_of(error))
        if isinstance(error, OSError) and _nobody_reads(error):
            self._done(0)
        self._leave(as_ours(error))

    def _done(self, code: int) -> NoReturn:
        self._code = code
        # What libraries do at the end may wait for threads that wait for nothing any more.
        leave_after(GRACE_SECONDS, self._give_up)
        sys.exit(code)

    def _finally(self) -> None:
        if self._code is not None:
            self._end(self._code)

    def _remember(self) -> None:
        # The children of a process that ends are nobody's: later they are not found.
        self._started |= descendants()

    def _give_up(self) -> None:
        """Ends the process from a thread of its own, while the main thread does what it may."""
        if self._code is not None:
            os._exit(self._code)
        if sys.stderr.isatty():
            # A progress bar had hidden it.
            sys.stderr.write("\x1b[?25h\n")
        self._leave(_stopped(self._stopping.asked()))

    def _leave(self, error: EmbedkitError) -> NoReturn:
        if not self._leaving.acquire(blocking=False):
            # Another thread is at it, and has the seconds below for it.
            threading.Event().wait()
        leave_after(_LAST_SECONDS, lambda: os._exit(error.exit_code))
        _say(error)
        self._end(error.exit_code)

    def _end(self, code: int) -> NoReturn:
        self._remember()
        for flush in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
            try:
                flush()
            except (OSError, ValueError):
                continue
        # The last thing: libraries take the end of what they have started for a fault. Threads may
        # still be inside a call that nobody waits for any more.
        end(self._started - self._before)
        os._exit(code)

    def _in_a_thread(self, failed: Any) -> None:
        if not self._stopping.asked() and failed.exc_type is not SystemExit:
            name = failed.thread.name if failed.thread else "a thread"
            logging.getLogger("embedkit").warning(
                "%s ended by %s: %s",
                name,
                failed.exc_type.__name__,
                one_line(failed.exc_value),
            )


def _stopped(name: str) -> ResumableError:
    if sys.argv[1:2] and sys.argv[1] in _WHOLE_OR_NOT:
        return ResumableError(
            f"stopped by {name}; nothing was written, the same command begins again"
        )
    return ResumableError(
        f"stopped by {name}; run the same command again to resume from what is committed"
    )


def _say(error: EmbedkitError) -> None:
    """Writes the error's line to stderr, and an object to stdout where one was asked for."""
    message = str(error)
    # Not imported: another thread may be in the middle of that.
    say_error = getattr(sys.modules.get("embedkit.cli.logs"), "say_error", None)
    logging.disable(logging.NOTSET)
    try:
        if "--json" in sys.argv and not isinstance(error, NotPublishedError):
            # Who made a version that is not published has had the result.
            import json

            print(json.dumps({"error": message, "exit_code": error.exit_code}), flush=True)  # noqa: T201
    except (OSError, ValueError):
        pass
    try:
        if say_error is not None:
            say_error(message)
        else:
            sys.stderr.write(f"embedkit: {message}\n")
    except (OSError, ValueError):
        return


def _code_of(exiting: SystemExit) -> int:
    """Returns the exit code that a library or a script has asked for."""
    if exiting.code is None:
        return 0
    if not isinstance(exiting.code, int):
        sys.stderr.write(f"{exiting.code}\n")
        return ResumableError.exit_code
    if exiting.code == 1 and (_is_null(1) or _reader_has_left()):
        # So typer and Rich end a command whose output nobody reads; Rich opens the null device.
        return 0
    return ResumableError.exit_code if exiting.code == 1 else exiting.code


def _nobody_reads(error: OSError) -> bool:
    """Whether an error says that the reader of stdout has what it wanted, as ``head`` does."""
    return isinstance(error, BrokenPipeError) and _reader_has_left()


def _reader_has_left() -> bool:
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _is_null(number: int) -> bool:
    return stat.S_ISCHR(os.fstat(number).st_mode) and os.path.samestat(
        os.fstat(number), os.stat(os.devnull)
    )
