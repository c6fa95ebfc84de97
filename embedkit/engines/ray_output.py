"""What Ray tells of its workers goes to the log, not between a program's output."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from embedkit.errors.foreign import one_line

_LOG = logging.getLogger("embedkit")
_DEDUP = "RAY_DEDUP_LOGS"
_RAYS_THREAD = "ray_listen_error_messages"


@contextmanager
def ray_says_in_the_log() -> Iterator[None]:
    """Logs what Ray would print on stdout during the body."""
    if isinstance(sys.stdout, _Stdout):
        # A run of another thread does so already, and would give back what this one has put there.
        yield
        return
    stdout, dedup = sys.stdout, os.environ.get(_DEDUP)
    # Else Ray holds lines back, and prints them from whatever thread ends it. It asks only when it
    # is imported.
    os.environ.setdefault(_DEDUP, "0")
    sys.stdout = _Stdout(stdout)
    try:
        yield
    finally:
        sys.stdout = stdout
        if dedup is None:
            os.environ.pop(_DEDUP, None)


class _Stdout:
    """Stdout for everybody but the thread through which Ray speaks."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        """Writes a text, or logs it as one line where it is Ray's."""
        if threading.current_thread().name != _RAYS_THREAD:
            return self._stdout.write(text)
        if text.strip():
            # Of a lost node it tells pages, which stand in its own logs as well.
            _LOG.info("Ray says: %s", one_line(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)
