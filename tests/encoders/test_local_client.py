"""The encoder of one process: loaded once, called once at a time, counted for each client."""

import gc
import os
import pickle
import threading
import time

import numpy as np
import pytest
from running import tiny_job

from embedkit.encoders import local_client
from embedkit.encoders.kinds import read_model
from embedkit.encoders.local_client import LocalConnection
from embedkit.errors import ConfigError
from embedkit.vectors import TokenBatch


class SlowEncoder:
    dimension, device, device_seconds = 2, "none", None

    def __init__(self) -> None:
        self.inside = self.most = self.computed_tokens = 0

    def encode(self, batch: TokenBatch) -> np.ndarray:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.002)
        self.inside -= 1
        self.computed_tokens += 2 * len(batch.input_ids)
        return np.full((len(batch), 2), batch.input_ids[0], dtype=np.float32)


@pytest.fixture
def loaded(monkeypatch) -> list[SlowEncoder]:
    """The encoders loaded so far, in a process that has none yet."""
    encoders: list[SlowEncoder] = []

    def load(model) -> SlowEncoder:
        encoders.append(SlowEncoder())
        return encoders[-1]

    forget()
    monkeypatch.setattr(local_client, "load_encoder", load)
    yield encoders
    forget()


def forget() -> None:
    local_client._used_last.clear()
    local_client._in_use.clear()


@pytest.fixture
def connection(tiny_model, tmp_path) -> LocalConnection:
    return LocalConnection(read_model(tiny_job(tiny_model, "in", tmp_path)))


def batches(first: int, count: int) -> list[TokenBatch]:
    return [TokenBatch.from_lists([[number, 1], [2]]) for number in range(first, first + count)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_threads_share_one_encoder_and_wait_for_each_other(
    at_once, connection, loaded, monkeypatch
):
    monkeypatch.setattr(type(connection.model), "calls_at_once", at_once)
    found: dict[int, list[float]] = {}

    def work(first: int) -> None:
        vectors = connection().encode_all(batches(first, 20))
        found[first] = [float(each[0, 0]) for each in vectors]

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {first: list(range(first, first + 20)) for first in (100, 200, 300, 400)}
    assert len(loaded) == 1
    assert loaded[0].most == at_once


def test_no_encoder_is_loaded_twice_while_somebody_has_it(connection, loaded, tiny_model, tmp_path):
    """And of those that nobody has any more, the two that were used last stay."""
    others = [
        LocalConnection(read_model(tiny_job(tiny_model, "in", tmp_path, max_tokens=20 + n)))
        for n in range(3)
    ]
    every = [connection, *others]
    clients = [one() for one in every]
    assert len(loaded) == 4
    again = [one() for one in every * 2]
    assert len(loaded) == 4
    assert [one.encoder for one in again[:4]] == [one.encoder for one in clients]
    del clients, again
    gc.collect()
    others[1](), others[2]()
    assert len(loaded) == 4
    connection()
    assert len(loaded) == 5


def test_each_client_counts_its_own_calls(connection, loaded):
    """A process may run several jobs, one after the other, with one model."""
    first, second = connection(), connection()
    list(first.encode_all(batches(1, 3)))
    assert [(load.calls, load.rows, load.tokens) for load in first.loads()] == [(3, 6, 9)]
    assert [(load.calls, load.first_start) for load in second.loads()] == [(0, 0.0)]


def test_a_connection_travels_to_other_processes(connection):
    assert pickle.loads(pickle.dumps(connection)) == connection
    assert len(pickle.dumps(connection)) < 4096


def test_a_fork_of_the_process_that_loaded_it_is_told_so(connection, loaded):
    client = connection()
    batch = TokenBatch.from_lists([[1, 2]])
    child = os.fork()
    if child == 0:
        refused = 0
        for encode in (connection, lambda: next(client.encode_all([batch]))):
            try:
                encode()
            except ConfigError as error:
                refused += "was forked" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert next(client.encode_all([batch])).shape == (1, 2)
