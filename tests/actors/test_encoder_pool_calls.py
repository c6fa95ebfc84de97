"""Real encoders in Ray: results against the same encoder in this process, kills included."""

import os
import pickle
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
import ray
from processes import wait_until
from running import tiny_job
from tiny_models import save_transformer

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.pool_client import PoolConnection
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.meter import busy_share
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError, EncoderError
from embedkit.vectors import TokenBatch, TokenSpans

pytestmark = pytest.mark.timeout(600)


def make_pool(spec: ModelSpec, **settings: object) -> EncoderPool:
    defaults = {"encoders": 2, "namespace": "tests", "calls_in_flight": 2, "timeout": 240.0}
    return EncoderPool(spec, **(defaults | {"cpus": 0.5} | settings))


@pytest.fixture(scope="module")
def spec(tiny_model) -> ModelSpec:
    return read_model(tiny_job(tiny_model, "in", "out"))


@pytest.fixture(scope="module")
def pool(spec, ray_session) -> Iterator[EncoderPool]:
    pool = make_pool(spec)
    assert pool.wait_until_ready()[0] == 32
    yield pool
    pool.stop()


def batches(seed: int, count: int) -> list[TokenBatch]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 24, (count, 3))
    return [TokenBatch.from_lists([random.integers(5, 100, n) for n in row]) for row in lengths]


@pytest.fixture(scope="module")
def expected(spec):
    """The vectors of batches, by the same encoder without Ray."""
    encoder = load_encoder(spec)
    return lambda seed, count: [encoder.encode(batch) for batch in batches(seed, count)]


def check(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(found) == len(expected)
    for vectors, oracle in zip(found, expected, strict=True):
        np.testing.assert_array_equal(vectors, oracle)


def pids(pool: EncoderPool) -> dict[str, int]:
    """The processes that the encoders say they are, newest last."""
    return {load.encoder: int(load.process.partition("-")[0]) for load in pool.loads(60.0)}


def test_results_come_in_order_and_from_all_encoders(pool, expected):
    before = Counter({load.encoder: load.calls for load in pool.loads(60.0)})
    check(list(pool.connection().encode_all(batches(1, 60))), expected(1, 60))
    loads = pool.loads(60.0)
    calls = Counter({load.encoder: load.calls for load in loads}) - before
    assert sum(calls.values()) == 60
    assert set(calls) == {"encoder-0", "encoder-1"}
    assert pool.running == 2
    assert 0 < busy_share(loads) <= 1
    assert {load.rows for load in loads} != {0}


def test_vectors_of_spans_come_in_order(pool, spec):
    """Of another number in each row, and of none in some."""
    random = np.random.default_rng(6)
    asked = []
    for batch in batches(6, 20):
        offsets = np.cumsum([0, *random.integers(0, 4, len(batch))]).astype(np.int32)
        lengths = np.repeat(batch.lengths, np.diff(offsets))
        starts = random.integers(0, lengths).astype(np.int32)
        asked.append(replace(batch, spans=TokenSpans(starts, lengths, offsets)))
    encoder = load_encoder(spec)
    check(list(pool.connection().encode_all(asked)), [encoder.encode(one) for one in asked])


def test_batches_are_taken_only_as_encoders_have_room(pool):
    taken = 0

    def count() -> Iterator[TokenBatch]:
        nonlocal taken
        for batch in batches(2, 40):
            taken += 1
            yield batch

    results = pool.connection().encode_all(count())
    next(results)
    # Two encoders with two calls each, and as many results again as wait for one before them.
    assert taken <= 4 * 2 * 2 + 1
    results.close()


def test_no_batches(pool):
    assert list(pool.connection().encode_all([])) == []


def test_clients_in_threads_and_in_other_processes_share_the_encoders(pool, expected):
    connection = pickle.loads(pickle.dumps(pool.connection))
    assert len(pickle.dumps(connection)) < 2048

    @ray.remote(num_cpus=0)
    def elsewhere(connect: PoolConnection, work: list[TokenBatch]) -> list[np.ndarray]:
        return list(connect().encode_all(work))

    remote = elsewhere.remote(connection, batches(10, 30))
    found: dict[int, list[np.ndarray]] = {}

    def work(seed: int) -> None:
        found[seed] = list(connection().encode_all(batches(seed, 30)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (11, 12, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    found[10] = ray.get(remote, timeout=240)
    for seed in (10, 11, 12, 13):
        check(found[seed], expected(seed, 30))


def test_what_an_encoder_cannot_encode_is_said_in_one_line(pool, expected):
    """A token that the model does not have, as from another model's tokenizer."""
    client = pool.connection()
    with pytest.raises(EncoderError) as raised:
        list(client.encode_all([TokenBatch.from_lists([[1, 2, 1_000_000]])]))
    assert str(raised.value) == (
        "an encoder failed: IndexError: index out of range in self; "
        "run the same command again to resume"
    )
    check(list(client.encode_all(batches(3, 4))), expected(3, 4))


@pytest.mark.soak
def test_both_encoder_processes_killed_with_calls_in_flight(pool, expected):
    client = pool.connection()
    before = pids(pool)
    assert len(set(before.values())) == 2
    results = client.encode_all(batches(4, 40))
    found = [next(results) for _ in range(5)]
    for pid in before.values():
        assert psutil.Process(pid).name().startswith("ray::EncoderAct")
        os.kill(pid, signal.SIGKILL)
    found += list(results)
    check(found, expected(4, 40))
    assert client.retries > 0
    check(list(client.encode_all(batches(5, 20))), expected(5, 20))
    after = pids(pool)
    assert set(after) == set(before)
    assert any(after[name] != before[name] for name in before)
    # What the killed processes did is not forgotten.
    assert len(pool.loads(60.0)) > 2


def test_an_encoder_that_hangs_is_given_up_and_said_so(pool, expected):
    client = PoolConnection(**(vars(pool.connection) | {"timeout": 2.0}))()
    list(client.encode_all(batches(6, 4)))
    stopped = set(pids(pool).values())
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EncoderError) as raised:
            list(client.encode_all(batches(6, 4)))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert str(raised.value) == (
        "no answer from an encoder for 2 s; run the same command again to resume, with a larger "
        "--encoder-timeout if the device is slow"
    )
    check(list(client.encode_all(batches(7, 4))), expected(7, 4))


# --- encoders that cannot be had ---


def test_a_model_that_cannot_be_loaded_is_a_fault_of_the_configuration(
    tiny_model, tmp_path, ray_session
):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    spec = read_model(tiny_job(str(model), "in", "out"))
    other = save_transformer(tmp_path / "other", "distilbert")
    shutil.copy(f"{other}/model.safetensors", model / "model.safetensors")
    spec = read_model(tiny_job(str(model), "in", "out"))
    pool = make_pool(spec, encoders=1)
    with pytest.raises(ConfigError) as raised:
        pool.wait_until_ready()
    pool.stop()
    assert str(model) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_cluster_without_room(spec, ray_session):
    pool = make_pool(spec, encoders=2, cpus=64, timeout=2.0)
    with pytest.raises(EncoderError, match=r"^0 of 2 encoders could be started in 2 s; give the"):
        pool.wait_until_ready()
    pool.stop()


def test_a_run_that_has_ended(spec, ray_session):
    pool = make_pool(spec, encoders=1, cpus=64)
    pool.stop()

    def connects() -> bool:
        try:
            pool.connection()
        except EncoderError:
            return False
        return True

    # Ray takes a moment to forget a name.
    wait_until(lambda: not connects())
    with pytest.raises(EncoderError, match="has ended, start it again"):
        pool.connection()
