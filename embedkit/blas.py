"""Products of matrices by threads of our own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from threadpoolctl import threadpool_limits


class _Limit:
    """Holds BLAS to one thread as long as anybody wants it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0

    def enter(self) -> None:
        """Says that one more wants it."""
        with self._lock:
            if not self._wanted:
                # Only the thread that set a limit can give back what was.
                self._holder = ThreadPoolExecutor(1, thread_name_prefix="blas")
                limit = self._holder.submit(threadpool_limits, limits=1, user_api="blas")
                self._limits = limit.result()
            self._wanted += 1

    def leave(self) -> None:
        """Says that one of them wants it no more."""
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                self._holder.submit(self._limits.restore_original_limits).result()
                self._holder.shutdown()


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
