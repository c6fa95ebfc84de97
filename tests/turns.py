"""Threads that run one store operation at a time, in an order that is told."""

import threading
from collections.abc import Iterable


class TurnTaker:
    """Lets one of some threads run at a time, one operation each, as a schedule says.

    Args:
        schedule: Whose turn it is, one after the other; behind its end, that of the first alive.
        count: How many there are.
    """

    def __init__(self, schedule: Iterable[int], count: int = 2) -> None:
        self._schedule = iter(schedule)
        self._condition = threading.Condition()
        self._alive = set(range(count))
        self._turn = self._next()

    def _next(self) -> int | None:
        if not self._alive:
            return None
        wanted = next(self._schedule, None)
        return wanted if wanted in self._alive else min(self._alive)

    def wait(self, who: int) -> None:
        """Waits until it is somebody's turn."""
        with self._condition:
            assert self._condition.wait_for(lambda: self._turn == who, timeout=30)

    def done(self, who: int, finished: bool = False) -> None:
        """Ends a turn; who is finished has none from here on."""
        with self._condition:
            if finished:
                self._alive.discard(who)
            self._turn = self._next()
            self._condition.notify_all()
