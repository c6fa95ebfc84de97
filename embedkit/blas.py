"""Products of matrices by threads of our own."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from threadpoolctl import threadpool_limits


class _Limit:
    """Holds BLAS to one thread as long as anybody wants it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0
        self._enough = Event()
        self._holder: Thread | None = None

    def enter(self) -> None:
        """Says that one more wants it."""
        with self._lock:
            self._wanted += 1
            if self._wanted > 1:
                return
            held, self._enough = Event(), Event()
            # Only the thread that set a limit can give back what was.
            self._holder = Thread(target=self._hold, args=(held, self._enough), daemon=True)
            self._holder.start()
            held.wait()

    def leave(self) -> None:
        """Says that one of them wants it no more."""
        with self._lock:
            self._wanted -= 1
            if self._wanted or self._holder is None:
                return
            self._enough.set()
            self._holder.join()
            self._holder = None

    @staticmethod
    def _hold(held: Event, enough: Event) -> None:
        try:
            with threadpool_limits(limits=1, user_api="blas"):
                held.set()
                enough.wait()
        finally:
            held.set()


_LIMIT = _Limit()


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Has BLAS compute on the thread that asks it, for as long as this is entered.

    Where several threads ask at once, each with threads of BLAS besides, there are more than cores,
    and they spin while they wait for each other. This holds for the whole process, whoever
    computes; the last one to leave gives back what was. A BLAS that takes its threads from OpenMP
    keeps them.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
