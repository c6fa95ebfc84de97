"""A function of many items, in processes of their own where there are many, in the items' order.

The processes are started by a command of their own and not by ``multiprocessing``, which would run
the user's main module again: a script without a guard around its last lines would start anew.
"""

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from embedkit.errors import ResumableError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MOST_PROCESSES = 8
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from embedkit.dataset.processes import serve; serve()"
)
_AHEAD = 2
"""Items per process that are worked on or done before the first result is taken."""


class Each(Protocol):
    """Calls a function with each of some items; yields the results in the order of the items."""

    def __call__(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], /
    ) -> Iterator[_Result]:
        """Raises what the function raises; function, items and results may have to be pickled."""
        ...


def here(function: Callable[[_Item], _Result], items: Iterable[_Item], /) -> Iterator[_Result]:
    """Calls a function with each item in this process."""
    return map(function, items)


@contextmanager
def processes(most: int) -> Iterator[Each]:
    """Starts processes, and ends them when the body is left.

    Args:
        most: How many at most; with one, the work is done in this process.
    """
    count = min(most, _MOST_PROCESSES)
    if count < 2 or not sys.executable:
        yield here
        return
    pool = _Pool(count)
    try:
        yield pool.each
    finally:
        pool.close()


class _Pool:
    """Processes, each of which is sent one item at a time by whichever thread has it."""

    def __init__(self, count: int) -> None:
        self._workers: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for _ in range(count):
            worker = _start()
            self._workers.append(worker)
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="processes")

    def each(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], /
    ) -> Iterator[_Result]:
        waiting: deque[Future[_Result]] = deque()
        most = _AHEAD * len(self._workers)
        try:
            for item in items:
                waiting.append(self._threads.submit(self._call, function, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        # What a worker still has in hand nobody waits for.
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.communicate()

    def _call(self, function: Callable[[_Item], _Result], item: _Item) -> _Result:
        worker = self._idle.get()
        try:
            assert worker.stdin is not None and worker.stdout is not None
            pickle.dump((function, item), worker.stdin, pickle.HIGHEST_PROTOCOL)
            worker.stdin.flush()
            failed, result = pickle.load(worker.stdout)
        except (OSError, EOFError) as error:
            raise ResumableError(
                f"a process that helped to complete the version ended ({worker.wait()}); run the "
                "same command again to resume, with more memory if it was killed for want of it"
            ) from error
        finally:
            self._idle.put(worker)
        if failed:
            raise result
        found: _Result = result
        return found


def _start() -> subprocess.Popen[bytes]:
    # With -P nothing is imported from the working directory that this process would not.
    command = [sys.executable, "-P", "-c", _START, json.dumps(sys.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def serve() -> None:
    """Answers one pickled function and item after the other, until there are no more."""
    # A terminal sends it to all; the process that began this one sees to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints would stand between the answers.
    os.dup2(2, 1)
    with ThreadPoolExecutor(1) as thread:
        while True:
            try:
                function, item = pickle.load(calls)
            except EOFError:
                return
            done = thread.submit(function, item)
            error = done.exception()
            answer = (False, done.result()) if error is None else (True, error)
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
