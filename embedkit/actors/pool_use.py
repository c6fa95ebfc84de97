"""Counts the threads inside a pool's calls, so that it is not ended while one is.

A thread that calls Ray after ``ray.shutdown`` makes Ray join any cluster that it finds on the
machine, and one that is inside a call at that moment takes the process down with SIGABRT.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from embedkit.errors import EncoderError

_LEAVE_SECONDS = 15.0

_changed = threading.Condition()
_threads: Counter[str] = Counter()
_ended: dict[str, str] = {}
_lost: set[str] = set()


@contextmanager
def inside(pool: str) -> Iterator[None]:
    """Keeps a pool from being ended during the body.

    Args:
        pool: Name that the pool has in all processes; an empty one is never ended.

    Raises:
        EncoderError: It has been ended in this process, or is lost.
    """
    with _changed:
        go_on(pool)
        _threads[pool] += 1
    try:
        yield
    finally:
        with _changed:
            _threads[pool] -= 1
            _changed.notify_all()


def go_on(pool: str) -> None:
    """Raises where a pool has been ended in this process or is lost; asked now and then inside."""
    if pool in _ended:
        raise EncoderError(_ended[pool])


def lose(pool: str, why: str) -> None:
    """Sends everybody out of a pool that will not answer any more.

    Args:
        pool: Name of the pool.
        why: What they are told.
    """
    with _changed:
        _lost.add(pool)
        _ended.setdefault(pool, why)


def is_lost(pool: str) -> bool:
    """Whether a pool has been given up as lost."""
    return pool in _lost


def end(pool: str) -> None:
    """Lets nobody into a pool any more, and waits until those inside have left."""
    with _changed:
        _ended.setdefault(pool, "the run that owned the encoders has ended, start it again")
        _changed.wait_for(lambda: not _threads[pool], timeout=_LEAVE_SECONDS)
