"""How a worker of a run on a cluster ends, and what it is told."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from running import tiny_job, write_corpus

from embedkit.actors.pool_client import PoolConnection
from embedkit.actors.split_queue import QueueConnection
from embedkit.engines import ray_worker
from embedkit.errors import EncoderError, ResumableError
from embedkit.flow.prepare import prepare
from embedkit.flow.reuse import Reuse


class _Worker(ray_worker.Worker):
    """A worker without a pipeline."""

    def __init__(self) -> None:
        threading.Thread.__init__(self, name="worker-7")
        self._pipeline = None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_unforeseen_end_of_a_worker_is_not_taken_for_the_end_of_its_work(monkeypatch):
    def run(raised: Exception | None) -> Exception | None:
        def run_to_end(pipeline: object) -> None:
            if raised is not None:
                raise raised

        monkeypatch.setattr(ray_worker, "run_to_end", run_to_end)
        worker = _Worker()
        worker.start()
        worker.join()
        return worker.error

    assert run(None) is None
    known = EncoderError("none answered")
    assert run(known) is known
    unforeseen = run(KeyError("beam"))
    assert isinstance(unforeseen, ResumableError)
    assert str(unforeseen).startswith("worker-7 stopped unexpectedly")


def test_what_a_worker_is_told_does_not_grow_with_the_splits(tiny_model, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", 1, 5)
    job = prepare(tiny_job(tiny_model, corpus, tmp_path / "out"))
    pool = SimpleNamespace(connection=PoolConnection("127.0.0.1:1", "tests", ("one",), 2, 9.0))
    queue = SimpleNamespace(connection=lambda name: QueueConnection("queue", "tests", name))

    def size_of_pipeline(count: int) -> int:
        names = [f"{number:05d}" for number in range(count)]
        plan = replace(
            job.plan, splits=tuple(replace(job.plan.splits[0], split_id=name) for name in names)
        )
        reuse = Reuse(job.version.sibling("v0"), splits=dict(zip(names, names, strict=True)))
        of_splits = replace(job, plan=plan, reuse=reuse)
        worker = ray_worker.Worker("worker-0", None, of_splits, pool, queue, 1)
        environment = worker._runner._default_environment
        return worker._pipeline.to_runner_api(default_environment=environment).ByteSize()

    assert size_of_pipeline(3000) == pytest.approx(size_of_pipeline(1), rel=0.02)
