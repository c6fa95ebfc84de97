"""The runner of the local engine: several workers at once, no socket, and errors as they were."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import psutil
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from beam_running import results

from embedkit.errors import InputError, ResumableError
from embedkit.transforms.thread_runner import ThreadRunner, _Channel

SECONDS = 60


def listening() -> set[Any]:
    found = psutil.Process().net_connections("all")
    return {one.laddr for one in found if one.status == psutil.CONN_LISTEN}


def numbers(count: int) -> beam.PTransform:
    return beam.Create(range(count), reshuffle=False) | beam.Reshuffle()


class _Meeting(beam.DoFn):
    """Goes on when as many workers as there are stand in it at the same time."""

    all_there: threading.Barrier
    threads: set[int]
    sockets: set[Any]

    def start_bundle(self) -> None:
        _Meeting.all_there.wait(SECONDS)
        _Meeting.threads.add(threading.get_ident())
        _Meeting.sockets |= listening()

    def process(self, number: int) -> Any:
        yield number


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_all_workers_run_at_once_without_a_socket_and_beside_the_main_thread(workers):
    before = listening()
    _Meeting.all_there = threading.Barrier(workers)
    _Meeting.threads, _Meeting.sockets = set(), set()
    found = results(
        lambda pipeline: pipeline | numbers(40) | beam.ParDo(_Meeting()),
        runner=ThreadRunner(workers),
    )
    assert sorted(found) == list(range(40))
    assert len(_Meeting.threads) == workers
    assert threading.main_thread().ident not in _Meeting.threads
    assert _Meeting.sockets <= before


def grouped(pipeline: beam.Pipeline) -> beam.PCollection:
    return (
        pipeline
        | numbers(300)
        | beam.Map(lambda number: (number % 7, number))
        | beam.GroupByKey()
        | beam.MapTuple(lambda key, group: (key, sorted(group)))
    )


def test_several_pipelines_at_once_mix_nothing_up():
    """Beam counts the bundles of all of them together, so that some share a worker."""
    wanted = [(key, list(range(key, 300, 7))) for key in range(7)]
    runners = [ThreadRunner(3), ThreadRunner(2), ThreadRunner(4), FnApiRunner()] * 3
    with ThreadPoolExecutor(len(runners)) as threads:
        found = list(threads.map(lambda runner: results(grouped, runner=runner), runners))
    assert [sorted(one) for one in found] == [wanted] * len(runners)


def refuse(number: int) -> int:
    if number == 17:
        raise InputError("corpus/a.jsonl: is a directory; give its files")
    return number


@pytest.mark.parametrize("workers", [1, 3])
def test_the_error_of_a_step_arrives_as_its_one_line(workers):
    with pytest.raises(InputError) as raised:
        results(
            lambda pipeline: pipeline | numbers(30) | beam.Map(refuse), runner=ThreadRunner(workers)
        )
    assert str(raised.value) == "corpus/a.jsonl: is a directory; give its files"


def test_any_other_error_is_one_line_too():
    with pytest.raises(ResumableError) as raised:
        results(
            lambda pipeline: pipeline | numbers(3) | beam.Map(lambda one: one // 0),
            runner=ThreadRunner(2),
        )
    assert "ZeroDivisionError" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bundles_of_one_worker_take_nothing_from_each_other():
    worker = _Channel()
    runner = worker.inverse()

    def send(bundle: str) -> None:
        stream = runner.output_stream(bundle, "read")
        stream.write(bundle.encode())
        stream.close()

    def received(bundle: str) -> Any:
        return (one.data for one in worker.input_elements(bundle, ["read"]))

    send("a")
    first = received("a")
    assert next(first) == b"a"
    send("b")
    assert list(received("b")) == [b"b"]
    send("c")
    assert list(first) == []
    assert list(received("c")) == [b"c"]
