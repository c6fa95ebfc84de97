"""Calls that are inside one encoder at once, also when its device is lost under them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embedkit.actors import encoder_actor
from embedkit.actors.encoder_actor import EncoderActor
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.encoders.meter import LoadMeter
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch

pytestmark = pytest.mark.timeout(600)

LOST, BROKEN = 1001, 1002


def make_encoder(lost: Path) -> type:
    """Returns a class of encoders that answer a batch's first id and the calls that were inside."""

    # Here, so that it travels to the workers, which cannot import a test.
    class Encoder:
        dimension, device, device_seconds = 2, "none", None

        def __init__(self) -> None:
            self.inside = self.computed_tokens = 0
            self.losing = False

        def encode(self, batch: TokenBatch) -> np.ndarray:
            first = int(batch.input_ids[0])
            self.inside += 1
            try:
                if first == LOST and not lost.exists():
                    self.lose_the_device()
                most = self.wait_for_another()
                if first == BROKEN:
                    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            finally:
                self.inside -= 1
            return np.array([[first, most]], dtype=np.float32)

        def wait_for_another(self) -> int:
            most, deadline = self.inside, time.monotonic() + 0.2
            while self.losing or (most < 2 and time.monotonic() < deadline):
                time.sleep(0.001)
                most = max(most, self.inside)
            return most

        def lose_the_device(self) -> None:
            self.losing, deadline = True, time.monotonic() + 60
            while self.inside < 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            lost.write_text(str(self.inside))
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return Encoder


@pytest.fixture
def start(ray_session, monkeypatch, tmp_path) -> Iterator[Callable[..., EncoderPool]]:
    """Starts a pool of such encoders."""
    encoder = make_encoder(tmp_path / "lost")

    class Actor(EncoderActor):
        def __init__(self, name: str, model: SimpleNamespace, canaries: None = None) -> None:
            self._encoder = encoder()
            self._places = threading.BoundedSemaphore(model.calls_at_once)
            self._meter = LoadMeter(name, f"{os.getpid()}-{time.time()}")

    pools: list[EncoderPool] = []

    def start(calls_at_once: int, encoders: int = 1) -> EncoderPool:
        monkeypatch.setattr(encoder_actor, "EncoderActor", Actor)
        model = SimpleNamespace(calls_at_once=calls_at_once)
        pools.append(
            EncoderPool(model, encoders, "tests", calls_in_flight=2, timeout=240.0, cpus=0)
        )
        pools[-1].wait_until_ready()
        return pools[-1]

    yield start
    for pool in pools:
        pool.stop()


def calls(*numbers: int) -> Iterator[TokenBatch]:
    yield from (TokenBatch.from_lists([[number, 1]]) for number in numbers)


@pytest.mark.parametrize("at_once", [1, 2])
def test_as_many_calls_are_inside_an_encoder_as_it_takes(at_once, start):
    pool = start(at_once)
    found = np.concatenate(list(pool.connection().encode_all(calls(*range(6)))))
    np.testing.assert_array_equal(found[:, 0], range(6))
    assert found[:, 1].max() == at_once
    (load,) = pool.loads(60.0)
    assert (load.calls, load.tokens) == (6, 12)
    assert load.busy_seconds <= load.last_end - load.first_start


def test_calls_beside_one_whose_device_is_lost_are_repeated(start, tmp_path):
    pool = start(2, encoders=2)
    client = pool.connection()
    numbers = [*range(5), LOST, *range(5, 12)]
    found = np.concatenate(list(client.encode_all(calls(*numbers))))
    np.testing.assert_array_equal(found[:, 0], numbers)
    assert (tmp_path / "lost").read_text() == "2"
    assert client.retries >= 2


def test_an_error_of_one_call_leaves_the_encoder_where_it_is(start):
    pool = start(2)
    client = pool.connection()
    with pytest.raises(EncoderError, match="RuntimeError: mat1 and mat2 shapes cannot be"):
        list(client.encode_all(calls(1, BROKEN, 2)))
    before = {load.process for load in pool.loads(60.0)}
    assert len(list(client.encode_all(calls(3, 4)))) == 2
    assert {load.process for load in pool.loads(60.0)} == before
