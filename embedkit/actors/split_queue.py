"""The splits of a run on a cluster, handed out one at a time, as a Ray actor."""

import time
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embedkit.corpus.plan import Split
from embedkit.dataset.commit import CommitRecord
from embedkit.errors import ResumableError
from embedkit.flow.read import Claim
from embedkit.flow.tally import Tally
from embedkit.records import Block

MOST_CRASHES = 2


@dataclass(frozen=True)
class QueueState:
    """How far a queue is.

    Attributes:
        waiting: Splits that nobody has yet.
        claimed: Splits that are being worked on.
        idle_share: Share of their time that workers had no split, averaged over those that had one;
            a worker's time runs from its first split on.
        blocks: Blocks that were finished.
        quarantined: Blocks that killed their worker twice.
        started: Workers that have asked for a split.
        documents: Documents that the version accounts for, those of earlier tries included.
        documents_of_run: Those of this run.
        rejects: Rejects of this run.
    """

    waiting: int
    claimed: int
    idle_share: float
    blocks: int
    quarantined: tuple[str, ...]
    started: frozenset[str]
    documents: int = 0
    documents_of_run: int = 0
    rejects: int = 0


@dataclass(frozen=True)
class Release:
    """What a lost worker was doing.

    Attributes:
        split: Its split, which waits for another worker now; None where it had none.
        block: The block that it had in hand, or None where it was reading.
        crashes: How many workers have been killed there by now.
        files: The split's files.
    """

    split: str | None = None
    block: str | None = None
    crashes: int = 0
    files: tuple[str, ...] = ()


@dataclass
class _Worker:
    first: float
    idle_since: float | None = None
    idle: float = 0.0
    split: Split | None = None
    block: str | None = None
    leaving: bool = False

    def idle_until(self, now: float) -> float:
        return self.idle + (now - self.idle_since if self.idle_since is not None else 0.0)


@dataclass
class Ledger:
    """Who works on which split, and which blocks killed their workers: the queue without Ray.

    Attributes:
        splits: Those that nobody has.
        crashes: Times that a worker was killed while it had a block in hand, by block; while it
            was reading, by split.
        workers: What is known of each worker, by name.
        lost: Workers that were given up; one that lives on all the same gets nothing more.
        blocks: Blocks that workers have finished.
        ended: When nothing was left to do, or None before.
        tally: Counts what workers say they have committed.
    """

    splits: deque[Split]
    crashes: dict[str, int] = field(default_factory=dict)
    workers: dict[str, _Worker] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    blocks: int = 0
    ended: float | None = None
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, splits: Iterable[Split], documents: Mapping[str, int] | None = None) -> "Ledger":
        """Begins with all splits waiting, those that take longest first: short tails at the end.

        Args:
            splits: The splits.
            documents: Documents that earlier tries have committed, by split.
        """
        waiting = deque(sorted(splits, key=_size, reverse=True))
        return cls(waiting, tally=Tally(documents))

    def claim(self, name: str, now: float) -> Claim | None:
        """Gives a worker its next split, or None where none waits."""
        if name in self.lost:
            return None
        worker = self.workers.setdefault(name, _Worker(first=now))
        worker.block = None
        if not self.splits or worker.leaving:
            worker.split = None
            worker.idle_since = worker.idle_since if worker.idle_since is not None else now
            if not self.splits and not self.claimed:
                self.ended = now
            return None
        if worker.idle_since is not None:
            worker.idle, worker.idle_since = worker.idle_until(now), None
        worker.split = self.splits.popleft()
        self.ended = None
        split = worker.split.split_id
        careful = any(place.partition("-")[0] == split for place in self.crashes)
        quarantined = tuple(block for block in self.quarantined if block.partition("-")[0] == split)
        return Claim(worker.split, careful, quarantined)

    def begin(self, name: str, block_id: str | None) -> bool:
        """Notes the block that a worker has in hand; None while it reads.

        Returns:
            Whether the worker is to go on; one that is not has given its split back with this.
        """
        if name in self.lost:
            return False
        worker = self.workers[name]
        if block_id is None and worker.block is not None:
            self.blocks += 1
        if worker.leaving and block_id is not None and worker.split is not None:
            self.splits.appendleft(worker.split)
            worker.split = worker.block = None
            return False
        worker.block = block_id
        return True

    def retire(self, name: str) -> None:
        """Lets a worker finish the block it has in hand, and gives it no other."""
        if name in self.workers:
            self.workers[name].leaving = True

    def release(self, name: str, at_fault: bool) -> Release:
        """Takes back the split of a lost worker.

        Args:
            name: The worker.
            at_fault: Whether what it was doing may have killed it.
        """
        self.lost.add(name)
        worker = self.workers.pop(name, None)
        if worker is None or worker.split is None:
            return Release()
        self.splits.appendleft(worker.split)
        place = worker.block or worker.split.split_id
        if at_fault:
            self.crashes[place] = self.crashes.get(place, 0) + 1
        files = tuple(piece.url for piece in worker.split.ranges)
        return Release(worker.split.split_id, worker.block, self.crashes.get(place, 0), files)

    @property
    def claimed(self) -> int:
        """Splits that are being worked on."""
        return sum(worker.split is not None for worker in self.workers.values())

    @property
    def quarantined(self) -> list[str]:
        """Blocks that killed their worker twice."""
        return [
            place for place, count in self.crashes.items() if "-" in place and count >= MOST_CRASHES
        ]

    def state(self, now: float) -> QueueState:
        """Returns how far it is."""
        end = self.ended if self.ended is not None else now
        shares = [
            worker.idle_until(end) / (end - worker.first)
            for worker in self.workers.values()
            if end > worker.first
        ]
        return QueueState(
            len(self.splits),
            self.claimed,
            max(0.0, sum(shares) / len(shares)) if shares else 0.0,
            self.blocks,
            tuple(self.quarantined),
            frozenset(self.workers),
            self.tally.documents,
            self.tally.documents - self.tally.documents_before,
            self.tally.rejects,
        )


def _size(split: Split) -> int:
    return sum(piece.stored for piece in split.ranges)


class SplitQueue:
    """A ledger as a Ray actor."""

    def __init__(self, splits: tuple[Split, ...], documents: Mapping[str, int]) -> None:
        self._ledger = Ledger.of(splits, documents)

    def claim(self, worker: str) -> Claim | None:
        """See ``Ledger.claim``."""
        return self._ledger.claim(worker, time.monotonic())

    def begin(self, worker: str, block_id: str | None) -> bool:
        """See ``Ledger.begin``."""
        return self._ledger.begin(worker, block_id)

    def count(self, split_id: str, before: int, documents: int, rejects: int) -> None:
        """See ``Tally.count``."""
        self._ledger.tally.count(split_id, before, documents, rejects)

    def retire(self, worker: str) -> None:
        """See ``Ledger.retire``."""
        self._ledger.retire(worker)

    def release(self, worker: str, at_fault: bool) -> "Release":
        """See ``Ledger.release``."""
        return self._ledger.release(worker, at_fault)

    def state(self) -> QueueState:
        """See ``Ledger.state``."""
        return self._ledger.state(time.monotonic())


@dataclass(frozen=True)
class QueueConnection:
    """One worker's way to the queue; picklable, good on every node.

    Attributes:
        name: Name of the queue's actor.
        namespace: The run's Ray namespace.
        worker: The worker's name.
    """

    name: str
    namespace: str
    worker: str

    @cached_property
    def _queue(self) -> "ray.actor.ActorHandle":
        try:
            return ray.get_actor(self.name, namespace=self.namespace)
        except ValueError as error:
            raise _gone() from error

    def __reduce__(self) -> tuple[object, ...]:
        """Leaves the actor's handle behind when it goes to another process."""
        return QueueConnection, (self.name, self.namespace, self.worker)

    def claim(self) -> Claim | None:
        """Returns the next split, or None where none is left.

        Raises:
            ResumableError: The run's driver has ended, and the queue with it.
        """
        found: Claim | None = _answer(self._queue.claim.remote(self.worker))
        return found

    def begin(self, block_id: str | None) -> bool:
        """Says which block this worker has in hand; None while it reads.

        Returns:
            Whether to go on.

        Raises:
            ResumableError: The run's driver has ended, and the queue with it.
        """
        goes_on: bool = _answer(self._queue.begin.remote(self.worker, block_id))
        return goes_on

    def on_commit(self, block: Block, record: CommitRecord) -> None:
        """Says that this worker has committed a block; waits for no answer.

        What the worker asks next is answered after this was counted.
        """
        self._queue.count.remote(
            block.split_id, block.documents_before, record.documents, record.rejects
        )


def _answer(call: "ray.ObjectRef") -> Any:
    try:
        return ray.get(call)
    except RayActorError as error:
        raise _gone() from error


def _gone() -> ResumableError:
    return ResumableError(
        "the run's queue of splits is gone, and its driver most likely with it; run the same "
        "command again to resume"
    )


class RunQueue:
    """The queue of one run, owned by the driver on its own node: it ends with it.

    Args:
        splits: The splits that are left to do.
        namespace: The run's Ray namespace.
        documents: Documents that earlier tries have committed, by split.

    Raises:
        ResumableError: From every method that asks it: its process was lost.
    """

    def __init__(
        self,
        splits: tuple[Split, ...],
        namespace: str,
        documents: Mapping[str, int] | None = None,
    ) -> None:
        self._namespace = namespace
        self._name = f"embedkit-{uuid.uuid4().hex[:8]}-splits"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": self._name, "num_cpus": 0, "scheduling_strategy": here}
        self._actor = ray.remote(SplitQueue).options(**options).remote(splits, documents or {})

    def connection(self, worker: str) -> QueueConnection:
        """Returns a worker's way to the queue."""
        return QueueConnection(self._name, self._namespace, worker)

    def state(self) -> QueueState:
        """Returns how far it is."""
        state: QueueState = _answer(self._actor.state.remote())
        return state

    def release(self, worker: str, at_fault: bool) -> "Release":
        """Takes back the split of a lost worker."""
        release: Release = _answer(self._actor.release.remote(worker, at_fault))
        return release

    def retire(self, worker: str) -> None:
        """Lets a worker finish the block it has in hand, and gives it no other."""
        _answer(self._actor.retire.remote(worker))

    def stop(self) -> None:
        """Ends the queue."""
        ray.kill(self._actor, no_restart=True)
