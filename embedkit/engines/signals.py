"""Signals stay with the program whatever a library does with them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_OURS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts the handlers of SIGINT and SIGTERM back after the body.

    ``ray.init`` takes SIGTERM for itself, for an exit with code 15 and a page of C++ frames.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _OURS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
