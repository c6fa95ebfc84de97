"""A function over splits as Ray tasks, each of which may lose its worker."""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from embedkit.actors import pool_use
from embedkit.errors import EncoderError, ResumableError, error_in_traceback
from embedkit.flow.ledger import MOST_CRASHES
from embedkit.flow.map_splits import OfSplit, Result

_LOG = logging.getLogger("embedkit")
_POLL_SECONDS = 0.5
_LOST = (WorkerCrashedError, NodeDiedError, ObjectLostError, OutOfMemoryError)


@dataclass(frozen=True)
class MapOnRay:
    """Maps a function over splits on the CPUs of the Ray that this process has joined.

    Attributes:
        most_lost: Tasks that may be lost, with their process or their node.
        timeout: Seconds to wait for the first CPU.
        use: Name of this use of Ray, by which it can be ended from another thread; none where it
            ends by itself.
    """

    most_lost: int
    timeout: float
    use: str = ""

    def __call__(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterator[Result]:
        """Yields what the function returned of each item, in their order.

        Raises:
            EmbedkitError: What stopped one of them.
            ResumableError: A split killed two workers, or too many were lost.
            EncoderError: No CPU could be had in time.
        """
        with pool_use.inside(self.use):
            self._wait_for_room()
            run = _Running(function, items, self.most_lost)
            try:
                for found in run.results():
                    pool_use.go_on(self.use)
                    yield from found
            finally:
                run.cancel()

    def _wait_for_room(self) -> None:
        placed = ray.remote(_nothing).options(num_cpus=1).remote()
        deadline = time.monotonic() + self.timeout
        while not ray.wait([placed], timeout=_POLL_SECONDS)[0]:
            pool_use.go_on(self.use)
            if time.monotonic() > deadline:
                ray.cancel(placed)
                raise EncoderError(
                    f"no CPU of the Ray cluster could be had in {self.timeout:.0f} s to read "
                    "splits; give the cluster room, then run the same command again"
                )


def _nothing() -> None:
    return None


def work_on_split(function: Callable[[OfSplit], Result], item: OfSplit) -> Result:
    """Calls the function: the task, after which Ray names its process."""
    return function(item)


class _Running(Generic[OfSplit, Result]):
    """Tasks that are waiting, running and done; no more are sent than CPUs can take soon."""

    def __init__(
        self,
        function: Callable[[OfSplit], Result],
        items: Sequence[OfSplit],
        most_lost: int,
    ) -> None:
        # Ray itself would try for ever what kills its worker by taking too much memory.
        self._task = ray.remote(work_on_split).options(
            num_cpus=1, max_retries=0, scheduling_strategy="SPREAD"
        )
        self._function = function
        self._items = items
        self._most_lost = most_lost
        self._waiting = deque(range(len(items)))
        self._running: dict[Any, int] = {}
        self._done: dict[int, Result] = {}
        self._crashes: Counter[int] = Counter()
        self._lost = 0

    def results(self) -> Iterator[tuple[Result, ...]]:
        """Yields each result, in order, and now and then nothing while one is waited for."""
        for place in range(len(self._items)):
            while place not in self._done:
                self._send()
                for ended in ray.wait(list(self._running), timeout=_POLL_SECONDS)[0]:
                    self._take(ended)
                yield ()
            yield (self._done.pop(place),)

    def _send(self) -> None:
        most = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while self._waiting and len(self._running) < most:
            place = self._waiting.popleft()
            self._running[self._task.remote(self._function, self._items[place])] = place

    def _take(self, ended: Any) -> None:
        place = self._running.pop(ended)
        try:
            self._done[place] = ray.get(ended)
        except _LOST as error:
            self._lose(place, error)
        except RayTaskError as error:
            known = error_in_traceback(str(error))
            if known is None:
                raise
            raise known from error

    def _lose(self, place: int, error: RayError) -> None:
        split = self._items[place].split
        self._lost += 1
        # A node that is gone says nothing of what was read on it.
        self._crashes[place] += not isinstance(error, NodeDiedError | ObjectLostError)
        said = next(iter(str(error).splitlines()), type(error).__name__)
        _LOG.warning(
            "the worker that read split %s is gone: %s; another takes over",
            split.split_id,
            said,
        )
        if self._crashes[place] >= MOST_CRASHES:
            files = ", ".join([piece.url for piece in split.ranges][:3])
            raise ResumableError(
                f"reading split {split.split_id} killed {self._crashes[place]} workers; look at "
                f"its files ({files}), or give the workers more memory"
            )
        if self._lost > self._most_lost:
            raise ResumableError(
                f"{self._lost} workers were lost, more than --max-lost-workers {self._most_lost} "
                f"allows; the last one because: {said}"
            )
        self._waiting.appendleft(place)

    def cancel(self) -> None:
        """Ends the tasks that nobody waits for any more."""
        for running in self._running:
            ray.cancel(running, force=True)
