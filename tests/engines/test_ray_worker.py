"""How a worker of a run on a cluster ends."""

import threading

import pytest

from embedkit.engines import ray_worker
from embedkit.errors import EncoderError, ResumableError


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
