"""Who works on which split, and which blocks killed their workers."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from embedkit.corpus.plan import Split
from embedkit.flow.read import Claim
from embedkit.flow.tally import Tally

MOST_CRASHES = 2
"""Workers that a block, or the reading of a split, may kill."""


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
