"""Rows as streams with a stub for a network: order, memory that runs out, threads, time."""

import logging
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from token_sums import Padded, Sums, expected, random_batch

from embedkit.encoders.transformer.stream import device as device_module
from embedkit.encoders.transformer.stream.backend import StreamBackend
from embedkit.encoders.transformer.stream.budget import Budget
from embedkit.encoders.transformer.stream.device import CpuDevice
from embedkit.encoders.transformer.stream.layout import stream_lengths
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch

LONGEST = 100


def make(network, budget=4_096, longest=LONGEST, device="cpu", **settings) -> StreamBackend:
    return StreamBackend(network, Padded(), device, budget, longest, pad_id=3, **settings)


def test_rows_come_back_in_their_order():
    network, batch = Sums(), random_batch(1, 900, LONGEST)
    backend = make(network)
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    lengths = stream_lengths(4_096, LONGEST)
    assert len(network.shapes) > 8
    assert {length for length, _ in network.shapes} <= set(lengths)
    assert backend.computed_tokens == sum(length for length, _ in network.shapes)


def test_rows_that_cannot_be_streamed_are_computed_padded():
    rows = [[5] * 7, [], [9, 1], [4] * (LONGEST + 1), [8], [2] * LONGEST]
    batch = TokenBatch.from_lists(rows)
    padded, network = Padded(), Sums()
    backend = StreamBackend(
        network, padded, "cpu", 1_024, LONGEST, 3, fits=lambda batch: batch.lengths != 1
    )
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    assert padded.lengths == [0, LONGEST + 1, 1]
    assert backend.computed_tokens == sum(n for n, _ in network.shapes) + padded.computed_tokens
    padded.lengths.clear()
    np.testing.assert_array_equal(backend.run(batch.take(np.array([1]))), expected(batch)[[1]])
    assert padded.lengths == [0]


def test_shapes_are_int32_and_rows_stand_at_their_places():
    seen = []

    class Looking(Sums):
        def __call__(self, ids, places, offsets, longest):
            seen.append((ids.clone(), places.clone(), offsets.clone()))
            return super().__call__(ids, places, offsets, longest)

    make(Looking()).run(TokenBatch.from_lists([[7, 8, 9], [6] * 5]))
    ((ids, places, offsets),) = seen
    assert {one.dtype for one in seen[0]} == {torch.int32}
    assert ids[:8].tolist() == [6] * 5 + [7, 8, 9]
    assert ids[8:].unique().tolist() == [3]
    assert places[:8].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert offsets[:3].tolist() == [0, 5, 8]
    assert offsets[-1] == len(ids) == len(places)


# --- memory that runs out ---


@pytest.mark.parametrize("room", [3_000, 700, 130])
def test_streams_are_halved_until_they_fit_which_is_remembered(room):
    network, batch = Sums(room), random_batch(2, 400, LONGEST)
    backend = make(network)
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    assert backend.budget in [4_096 >> n for n in range(12)]
    assert backend.budget <= room < 2 * backend.budget + 256
    tried = max(length for length, _ in network.shapes)
    assert tried > room
    failed = [length for length, _ in network.shapes if length > room]
    assert len(failed) == len(set(failed)), "a length that does not fit is tried once"
    network.shapes.clear()
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    assert max(length for length, _ in network.shapes) <= room


def test_what_was_computed_before_the_memory_ran_out_is_kept():
    class Shrinking(Sums):
        def __call__(self, *arrays):
            self.room = None if len(self.shapes) < 3 else 600
            return super().__call__(*arrays)

    network, batch = Shrinking(), random_batch(3, 400, LONGEST)
    backend = make(network)
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    lengths = [length for length, _ in network.shapes]
    assert lengths[:6] == [4_096, 4_096, 4_096, 4_096, 2_048, 1_024]
    left = len(batch.input_ids) - 3 * 4_096
    assert set(lengths[6:]) == {512}
    assert sum(lengths[6:]) < 1.2 * left
    assert backend.budget == 512


def test_a_row_that_does_not_fit_ends_it_in_one_line():
    network = Sums(room=90)
    backend = make(network)
    with pytest.raises(EncoderError, match=r"no memory for a stream of \d+ tokens, with texts of"):
        backend.run(random_batch(4, 40, LONGEST))
    assert backend.budget >= LONGEST
    assert len(network.shapes) < 12
    network.room = 10_000
    batch = random_batch(5, 40, LONGEST)
    np.testing.assert_array_equal(backend.run(batch), expected(batch))


def test_other_errors_are_not_swallowed_and_leave_the_backend_usable():
    network, batch = Sums(), random_batch(6, 200, LONGEST)
    backend = make(network)
    for _ in range(5):
        network.error = RuntimeError("CUDA error: device-side assert triggered")
        with pytest.raises(RuntimeError, match="device-side assert"):
            backend.run(batch)
        network.error = None
    np.testing.assert_array_equal(backend.run(batch), expected(batch))


@pytest.mark.parametrize("room", [4_096, 2_000, 150])
def test_the_budget_is_found_by_a_probe(room, caplog):
    network = Sums(room)
    backend = make(network)
    with caplog.at_level(logging.INFO):
        backend.probe()
    assert (
        max(length for length, _ in network.shapes if length <= room)
        == (stream_lengths(backend.budget, LONGEST)[0])
    )
    assert backend.budget == (4_096 if room == 4_096 else 1 << (room.bit_length() - 1))
    assert len(caplog.messages) == sum(length > room for length, _ in network.shapes)
    tried = len(network.shapes)
    backend.run(random_batch(7, 400, LONGEST))
    assert max(length for length, _ in network.shapes[tried:]) <= room
    # Rows as long as any fill it.
    assert network.shapes[0] == (4_096, 64)


class Roomy(CpuDevice):
    """Has room for streams of so many tokens and what it wants to keep free beside them."""

    def __init__(self, network: Sums, room: int) -> None:
        self.network, self.room = network, room

    def has_room(self, work) -> bool:
        work()
        return self.network.shapes[-1][0] <= self.room


@pytest.mark.parametrize(("room", "budget"), [(9_999, 4_096), (2_500, 2_048), (0, 128)])
def test_the_probe_leaves_room_where_that_can_be(room, budget):
    network = Sums()
    backend = make(network, device=Roomy(network, room))
    backend.probe()
    assert backend.budget == budget


def test_a_probe_of_a_device_without_memory_for_one_row():
    with pytest.raises(EncoderError, match=r"take a lower precision or fewer max_tokens"):
        make(Sums(room=99)).probe()


@pytest.mark.parametrize(
    ("asked", "longest", "below", "tokens"),
    [
        (65_536, 512, None, 32_768),
        (65_536, 512, 65_536, 32_768),
        (65_536, 512, 16_384, 8_192),
        (65_536, 512, 1_024, 512),
        (65_536, 512, 512, 512),
        (65_536, 8_192, 512, 8_192),
        (65_536, 5_000, 512, 8_192),
        (65_536, 40_000, None, 65_536),
        (1_000, 8_192, None, 8_192),
    ],
)
def test_budgets_are_halves_and_leave_room_for_a_row(asked, longest, below, tokens):
    budget = Budget(asked, longest)
    assert budget.halve(below) == (tokens < max(asked, longest))
    assert budget.tokens == tokens
    assert budget.lengths == stream_lengths(tokens, longest)


# --- threads and time ---


@pytest.mark.parametrize("room", [None, 1_500])
def test_threads_run_beside_each_other(room):
    backend = make(Sums(room))
    batches = [random_batch(seed, 300, LONGEST) for seed in range(4)]
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        for _ in range(3):
            found[number] = backend.run(batches[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    for number, vectors in found.items():
        np.testing.assert_array_equal(vectors, expected(batches[number]))


class Slow(CpuDevice):
    """Gives results only when a second call has put work on the queues."""

    def __init__(self) -> None:
        self.second = threading.Event()

    def event(self, timed=False):
        event = super().event(timed)
        event.synchronize = lambda: self.second.wait(30) or pytest.fail("the second call waits")
        return event


def test_a_call_is_put_on_the_queues_while_another_waits_for_its_results():
    device, ids = Slow(), set()

    class Telling(Sums):
        def __call__(self, *arrays):
            ids.add(threading.get_ident())
            if len(ids) == 2:
                device.second.set()
            return super().__call__(*arrays)

    backend, batch = make(Telling(), device=device), random_batch(8, 3, LONGEST)
    found = []
    threads = [threading.Thread(target=lambda: found.append(backend.run(batch))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    for vectors in found:
        np.testing.assert_array_equal(vectors, expected(batch))


def test_the_device_is_timed_while_it_computes(monkeypatch):
    now = Counter()
    monkeypatch.setattr(device_module.time, "perf_counter", lambda: float(now["seconds"]))

    class Timed(Sums):
        def __call__(self, *arrays):
            now["seconds"] += 2
            return super().__call__(*arrays)

    class TimedPadded(Padded):
        def run(self, batch):
            now["seconds"] += 7
            return super().run(batch)

    network = Timed()
    backend = StreamBackend(network, TimedPadded(), "cpu", 1_024, LONGEST, 3)
    backend.run(random_batch(9, 200, LONGEST))
    assert backend.device_seconds == 2 * len(network.shapes) > 2
    before = backend.device_seconds
    backend.run(TokenBatch.from_lists([[], [1]]))
    assert backend.device_seconds == before + 7 + 2
