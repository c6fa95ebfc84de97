"""Signals stay with the program whatever a library does with them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants, utils

_OURS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Keeps a Ray that is started or joined in the body from SIGINT and SIGTERM.

    ``ray.init`` would take SIGTERM twice: in Python, for an exit with code 15 that whatever runs at
    that moment may swallow, and in C++, for a page of frames before anything here hears of it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _OURS}
    frames_off = ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER
    ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
    take_sigterm = utils.set_sigterm_handler
    utils.set_sigterm_handler = _leave_it
    try:
        yield
    finally:
        ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = frames_off
        utils.set_sigterm_handler = take_sigterm
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _leave_it(_: object) -> None:
    """Stands in for what installs a handler of SIGTERM."""
