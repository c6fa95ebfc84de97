"""The queue of splits as a Ray actor: what its loss looks like from both ends."""

import time

import pytest
import ray
from ray.exceptions import RayActorError

from embedkit.actors.split_queue import RunQueue
from embedkit.corpus.plan import FileRange, Split
from embedkit.errors import ResumableError


def kill(actor) -> None:
    """Kills an actor and waits until it answers no more; a call on its way may still be served."""
    ray.kill(actor)
    deadline = time.monotonic() + 60
    with pytest.raises(RayActorError):
        while time.monotonic() < deadline:
            ray.get(actor.__ray_ready__.remote())


def test_a_lost_queue_ends_driver_and_workers_as_resumable(ray_session):
    piece = FileRange("f", "/in/f", 1, "e", "jsonl", "none", 0, 1, 1)
    queue = RunQueue((Split("00000", (piece,)),), "tests")
    connection = queue.connection("worker-0")
    assert connection.claim().split.split_id == "00000"
    assert connection.begin("00000-00000")
    assert queue.state().claimed == 1
    kill(queue._actor)
    gone = "queue of splits is gone.*run the same command again to resume"
    for ask in (
        queue.state,
        lambda: queue.release("worker-0", at_fault=False),
        lambda: queue.retire("worker-0"),
        connection.claim,
        lambda: connection.begin(None),
        queue.connection("worker-1").claim,
    ):
        with pytest.raises(ResumableError, match=gone):
            ask()
    queue.stop()
