"""The splits of a run on a cluster, handed out one at a time, as a Ray actor."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.errors import ResumableError
from embedkit.flow.ledger import Ledger, QueueState, Release
from embedkit.flow.read import Claim
from embedkit.lazy import lazy_property
from embedkit.records import Block


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

    @lazy_property
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
