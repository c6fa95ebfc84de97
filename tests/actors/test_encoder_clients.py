"""How a client deals with encoders that are slow, stuck, wrong or dying."""

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
import ray

from embedkit.actors.pool_client import PoolClient
from embedkit.encoders.meter import EncoderLoad, LoadMeter
from embedkit.errors import ConfigError, EmbedkitError, EncoderError
from embedkit.vectors import TokenBatch

pytestmark = pytest.mark.timeout(600)

DIE, FAIL, REFUSE, HANG = 1001, 1002, 1003, 1004


@pytest.fixture
def start(ray_session):
    """Starts encoders that answer the first id of a batch, after so many seconds each."""

    # Here, so that it travels to the workers, which cannot import a test.
    class Actor:
        def __init__(self, seconds: float) -> None:
            self._seconds = seconds
            self._meter = LoadMeter("fake", str(os.getpid()))

        def encode(self, input_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
            first = int(input_ids[0])
            with self._meter.call(1, len(input_ids)):
                time.sleep(600 if first == HANG else self._seconds)
                if first == DIE:
                    os._exit(1)
                if first == FAIL:
                    raise ValueError("the weights\nare wrong")
                if first == REFUSE:
                    raise ConfigError("/models/x: not for this device; take another")
                return np.array([[first]], dtype=np.float32)

        @ray.method(concurrency_group="observe")
        def load(self) -> EncoderLoad:
            return self._meter.read()

    actors: list = []

    def start(*seconds: float, **settings: object) -> PoolClient:
        remote = ray.remote(concurrency_groups={"observe": 1})(Actor)
        options = remote.options(num_cpus=0, max_restarts=-1, max_task_retries=0)
        actors[:] = [options.remote(each) for each in seconds]
        ray.get([actor.load.remote() for actor in actors], timeout=240)
        defaults = {"calls_in_flight": 2, "timeout": 60.0, "wait": 240.0}
        return PoolClient(actors, **(defaults | settings))

    start.actors = actors
    yield start
    for actor in actors:
        ray.kill(actor, no_restart=True)


def calls(*numbers: int) -> Iterator[TokenBatch]:
    yield from (TokenBatch.from_lists([[number]]) for number in numbers)


def encoded(client: PoolClient, *numbers: int) -> list[int]:
    return [int(vectors[0, 0]) for vectors in client.encode_all(calls(*numbers))]


def test_a_faster_encoder_takes_more_and_results_keep_their_order(start):
    client = start(0.005, 0.2)
    assert encoded(client, *range(100)) == list(range(100))
    fast, slow = (load.calls for load in ray.get([one.load.remote() for one in start.actors]))
    assert fast + slow == 100
    assert fast > 3 * slow > 0


def test_an_encoder_that_answers_nothing_for_the_timeout_is_given_up(start):
    client = start(0.0, timeout=1.0)
    began = time.monotonic()
    with pytest.raises(EncoderError) as raised:
        encoded(client, 1, HANG, 2)
    assert time.monotonic() - began >= 1.0
    assert str(raised.value) == (
        "no answer from an encoder for 1 s; run the same command again to resume, with a larger "
        "--encoder-timeout if the device is slow"
    )


def test_an_encoder_that_works_on_others_calls_is_waited_for(start):
    """A call stands behind twelve of another client: longer than the timeout, with progress."""
    client = start(0.4, timeout=1.5)
    (actor,) = start.actors
    others = [actor.encode.remote(one.input_ids, one.offsets) for one in calls(*range(12))]
    assert encoded(client, 77) == [77]
    assert len(ray.wait(others, num_returns=12, timeout=0)[0]) == 12


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (
            FAIL,
            EncoderError,
            "an encoder failed: ValueError: the weights; run the same command again to resume",
        ),
        (REFUSE, ConfigError, "/models/x: not for this device; take another"),
    ],
)
def test_what_an_encoder_says_of_a_call(start, number, kind, said):
    client = start(0.0)
    with pytest.raises(EmbedkitError) as raised:
        encoded(client, 1, number, 2)
    assert type(raised.value) is kind
    assert str(raised.value) == said
    assert encoded(client, 5, 6) == [5, 6]


def test_a_call_that_kills_every_encoder_is_given_up_after_four(start):
    client = start(0.0, 0.0)
    with pytest.raises(EncoderError) as raised:
        encoded(client, 1, DIE, 2)
    assert str(raised.value).startswith("a call of 1 texts lost its encoder 4 times (")
    assert "\n" not in str(raised.value)
    assert client.retries >= 3


def test_no_encoder_at_all(start):
    client = start(0.0, wait=2.0)
    ray.kill(start.actors[0], no_restart=True)
    with pytest.raises(EncoderError) as raised:
        encoded(client, 1)
    assert str(raised.value) == (
        "no encoder could be placed for 2 s; give the cluster room and run the same command again "
        "to resume"
    )


def test_encoders_that_cannot_be_started_anew_are_not_waited_for(ray_session, tmp_path):
    once = str(tmp_path / "started")

    class Actor:
        def __init__(self) -> None:
            # Such as a model that somebody removed meanwhile.
            open(once, "x").close()

        def encode(self, input_ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
            os._exit(1)

        def load(self) -> int:
            return 0

    actor = ray.remote(Actor).options(num_cpus=0, max_restarts=-1).remote()
    assert ray.get(actor.load.remote(), timeout=240) == 0
    client = PoolClient([actor], calls_in_flight=2, timeout=60.0, wait=240.0)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"could not be started \(.*FileExistsError"):
        encoded(client, 1)
    assert time.monotonic() - began < 120
