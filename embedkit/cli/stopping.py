"""Stops a process on SIGINT, SIGTERM and SIGHUP, whatever its main thread does.

Python runs a signal's handler between two steps of the main thread, which may be seconds inside
a C call, and a library may swallow what the handler raises or put a handler of its own in its
place. So a thread hears of each signal through a pipe that the C handler writes to, and sees to it
that the process ends.
"""

import _thread
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

GRACE_SECONDS = 10.0
"""What unwinding may take after the first signal."""

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN = 0
_SOON_SECONDS = 0.01
_IMPORTING = "<frozen importlib._bootstrap>"
"""Where a module is being loaded: C++ that does so may abort at what is raised in it."""


class Stopped(BaseException):
    """A signal; no library that catches what goes wrong with it may catch this."""


class Stopping:
    """Hears the signals of this process from its making on; made once, in the main thread.

    Args:
        heard: Called at the first signal, in another thread.
        leave: Ends the process without unwinding; called in any thread: at a second signal, at one
            after ``over``, at one while a module is being loaded, or after the grace.
    """

    def __init__(
        self,
        heard: Callable[[], object],
        leave: Callable[[], object],
    ) -> None:
        self._at_first = heard
        self._leave = leave
        self._asked = threading.Event()
        self._name = ""
        self._raising = False
        self._raised = False
        self._first = True
        self._is_over = False
        self._own = 0
        self._hears, self._tells = os.pipe()
        os.set_blocking(self._tells, False)
        signal.set_wakeup_fd(self._tells, warn_on_full_buffer=False)
        for number in _ASKING:
            # `nohup` has had it ignored; the others a shell ignores for all that it starts with &.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._stop)
        sys.unraisablehook = self._swallowed
        os.register_at_fork(after_in_child=_nothing_of_the_parents)
        try:
            threading.Thread(target=self._hear, name="signals", daemon=True).start()
        except RuntimeError:
            # No thread can be started here; what needs more of them will say so.
            return

    def asked(self, within: float = 0.0) -> str:
        """Returns the name of the signal that came first; empty while there was none.

        Args:
            within: Seconds to wait for one that is on its way.
        """
        self._asked.wait(within)
        return self._name

    def begin(self) -> None:
        """Raises a signal in the main thread from now on, and one that has come before.

        Raises:
            Stopped: One has come.
        """
        self._raising = True
        if self._asked.is_set():
            self._raising, self._raised = False, True
            raise Stopped(self._name)

    def over(self) -> None:
        """Raises nothing any more: the process is about to end by itself."""
        self._raising = False
        self._is_over = True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        self._name = self._name or signal.Signals(number).name
        self._asked.set()
        if self._raising and _is_in(frame, _IMPORTING):
            self._leave()
        if self._raising and _is_in(frame, logging.__file__):
            # It takes its lock outside of what gives it back, and everybody waits for that lock.
            os.write(self._tells, bytes([_AGAIN]))
            return
        if self._raising:
            self._raising, self._raised = False, True
            raise Stopped(self._name)

    def _hear(self) -> None:
        while True:
            for number in os.read(self._hears, 64):
                if number == _AGAIN:
                    self._raise_again()
                elif number in _ASKING:
                    self._heard(number)

    def _heard(self, number: int) -> None:
        if self._own:
            self._own -= 1
            return
        first, self._first = self._first, False
        self._name = self._name or signal.Signals(number).name
        if not first or (self._is_over and not self._raised):
            self._leave()
            return
        self._asked.set()
        self._at_first()
        leave_after(GRACE_SECONDS, self._leave)
        # What goes wrong from now on says nothing but that the run is being stopped.
        logging.disable(logging.CRITICAL)

    def _swallowed(self, unraisable: Any) -> None:
        """Takes what was raised where nothing can be, such as in a finalizer."""
        if unraisable.exc_type is Stopped:
            os.write(self._tells, bytes([_AGAIN]))
        elif not self._asked.is_set():
            sys.__unraisablehook__(unraisable)

    def _raise_again(self) -> None:
        time.sleep(_SOON_SECONDS)
        # It reaches the pipe as a signal would.
        self._own += 1
        self._raising = not self._is_over
        _thread.interrupt_main(signal.Signals[self._name] if self._name else signal.SIGTERM)


def _is_in(frame: FrameType | None, file: str) -> bool:
    """Whether a frame, or one that it was called from, is of some file."""
    while frame is not None:
        if frame.f_code.co_filename == file:
            return True
        frame = frame.f_back
    return False


def leave_after(seconds: float, leave: Callable[[], object]) -> None:
    """Calls what ends this process after so many seconds, unless it has ended before."""
    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:
        # No thread can be started here, so there is no limit.
        return


def _nothing_of_the_parents() -> None:
    signal.set_wakeup_fd(-1)
    for number in _ASKING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
