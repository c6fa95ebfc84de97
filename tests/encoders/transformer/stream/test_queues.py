"""Streams on a device of queues: nothing is used before it is there or while it is in use."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import queued_device
import torch
from queued_device import QueuedDevice
from token_sums import Padded, Sums, expected, random_batch

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.stream.backend import StreamBackend, TokenNetwork
from embedkit.encoders.transformer.stream.layout import streams
from embedkit.encoders.transformer.stream.network import StreamNetwork
from embedkit.encoders.transformer.stream.slots import Slot
from embedkit.encoders.transformer.torch_backend import placed_backend
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, TokenSpans

LONGEST = 100


@pytest.fixture
def device() -> QueuedDevice:
    return QueuedDevice()


def make(device, network=None, budget=1_024, padded=None, **settings) -> StreamBackend:
    network, padded = network or Sums(), padded or Padded()
    return StreamBackend(network, padded, device, budget, LONGEST, pad_id=3, **settings)


def check(backend, device, batch) -> None:
    with device.watching():
        vectors = backend.run(batch)
    assert device.faults == []
    np.testing.assert_array_equal(vectors, expected(batch))


def in_threads(work, number: int) -> list:
    """Runs work in threads, and returns what it returned; raises what it raised."""
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


@pytest.mark.parametrize("graphs", [True, False])
def test_nothing_is_used_before_it_is_there_or_while_it_is_in_use(graphs, device):
    backend = make(device, graphs=graphs)
    for seed, rows in enumerate([10, 300, 40, 1, 300]):
        check(backend, device, random_batch(seed, rows, LONGEST))
    assert (device.captures > 0) == (device.replays > 0) == graphs
    # The device as a whole is waited for by a capture, and by nothing else.
    assert device.waits == device.captures


@pytest.mark.parametrize(
    ("what", "name"),
    [
        (queued_device.FakeQueue, "wait_event"),
        (queued_device.FakeQueue, "record_event"),
        (queued_device.FakeEvent, "synchronize"),
    ],
)
def test_what_is_not_ordered_is_found(what, name, device, monkeypatch):
    monkeypatch.setattr(what, name, lambda *_: None)
    monkeypatch.setattr(queued_device.FakeEvent, "elapsed_time", lambda *_: 0.0)
    batch = random_batch(1, 300, LONGEST)
    with device.watching():
        vectors = make(device).run(batch)
    assert any(" races " in fault for fault in device.faults)
    assert (name == "wait_event") == bool(np.isfinite(vectors).all())


@pytest.mark.parametrize("graphs", [True, False])
def test_threads_share_the_queues(graphs, device):
    backend = make(device, graphs=graphs)

    def work(number: int) -> None:
        for seed in range(3):
            check(backend, device, random_batch(10 * number + seed, 120, LONGEST))

    assert in_threads(work, 3) == [None] * 3
    assert (device.replays > 0) == graphs


def test_the_next_stream_is_there_before_the_host_waits_for_one(device):
    check(make(device, graphs=False), device, random_batch(1, 300, LONGEST))
    *others, last = device.ahead
    assert len(others) > 10
    assert min(others) > 0
    assert last == 0


def test_the_time_is_that_of_the_computing_alone(device):
    backend = make(device, graphs=False)
    check(backend, device, random_batch(1, 300, LONGEST))
    # A millisecond for each operation.
    assert backend.device_seconds == pytest.approx(device.done["queue-1"] / 1_000)
    assert device.done["queue-0"] > 0


def test_rows_that_are_padded_are_computed_in_turn_with_streams(device):
    class OnDevice(Padded):
        def run(self, batch):
            assert device.current() is device.queues[1]
            with torch.inference_mode():
                device.buffer(5, torch.float32).add_(1).mul_(2)
            return super().run(batch)

    backend = make(device, padded=OnDevice(), graphs=False)
    check(backend, device, TokenBatch.from_lists([[4, 5], [], [7]]))
    assert backend.device_seconds == pytest.approx(device.done["queue-1"] / 1_000)


def test_a_model_on_the_queues(sentence_model, device):
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32"}
    spec = read_model(ModelConfig(model=sentence_model("modernbert"), **wanted))
    network = load_network(spec)
    stream, padded = StreamNetwork(network, spec), placed_backend(network, spec)
    longest = spec.tokenizer.max_tokens
    backend = StreamBackend(stream, padded, device, 512, longest, spec.pad_id, stream.fits)
    batch = random_batch(1, 60, longest)
    batch = TokenBatch(5 + batch.input_ids % 20, batch.offsets)
    for _ in range(4):
        with device.watching():
            vectors = backend.run(batch)
        assert device.faults == []
        np.testing.assert_allclose(vectors, padded.run(batch), rtol=0, atol=2e-5)
    assert device.replays > 1


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_spans_on_the_queues(pooling, plain_model, device):
    """Of another number in each stream, behind graphs of fixed shapes."""
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32", "max_tokens": 64}
    wanted |= {"granularity": "word", "word_pooling": pooling, "layers": "1..2:sum"}
    spec = read_model(ModelConfig(model=plain_model("bert"), **wanted))
    network = load_network(spec)
    stream, padded = StreamNetwork(network, spec), placed_backend(network, spec)
    tokens = TokenNetwork(stream.hidden, stream.spans)
    backend = StreamBackend(stream, padded, device, 512, 64, 0, stream.fits, tokens=tokens)
    with torch.inference_mode():
        backend.probe(of_spans=True)
    for seed in range(4):
        batch = random_batch(seed, 60, 64)
        batch = with_spans(replace(batch, input_ids=5 + batch.input_ids % 20), seed)
        with device.watching():
            vectors = backend.run(batch)
        assert device.faults == []
        np.testing.assert_allclose(vectors, padded.run(batch), rtol=0, atol=2e-5)
    assert device.replays > 1


def with_spans(batch: TokenBatch, seed: int) -> TokenBatch:
    """Adds up to two spans to each row."""
    random = np.random.default_rng(seed)
    offsets = np.cumsum([0, *random.integers(0, 3, size=len(batch))]).astype(np.int32)
    lengths = np.repeat(batch.lengths, np.diff(offsets))
    starts = random.integers(0, lengths).astype(np.int32)
    ends = random.integers(starts + 1, lengths + 1).astype(np.int32)
    return replace(batch, spans=TokenSpans(starts, ends, offsets))


# --- graphs ---


def test_a_shape_that_comes_often_becomes_a_graph(device):
    network = Sums()
    backend = make(device, network)
    batch = random_batch(1, 10, LONGEST)
    for captures, replays, calls in [(0, 0, 1), (0, 0, 2), (1, 1, 4), (1, 2, 5)]:
        check(backend, device, batch)
        # Replaying a graph calls the network only here, where it stands for its kernels.
        assert (device.captures, device.replays, len(network.shapes)) == (captures, replays, calls)


def test_each_shape_has_its_graph(device):
    backend = make(device)
    short, long = (TokenBatch.from_lists([[7] * n] * (500 // n)) for n in (2, 100))
    for batch in [short, long] * 5:
        check(backend, device, batch)
    assert device.captures == 2
    assert device.replays == 6


def test_graphs_are_let_go_once_none_is_under_way(device):
    backend = make(device)
    batch = random_batch(1, 10, LONGEST)
    for _ in range(4):
        check(backend, device, batch)
    with device.watching(), torch.inference_mode():
        (stream,) = streams(batch, backend._budget.lengths, LONGEST, pad_id=3)
        slot = backend._free.get()
        slot.submit(slot.fill(stream), len(batch), backend._graphs.compute)
        backend._graphs.drop(for_good=False)
    assert device.replays == 3
    assert device.faults == []


def test_where_a_graph_cannot_be_made_streams_go_on_without(device, caplog):
    backend = make(device)
    device.capture_error = RuntimeError("CUDA error: operation not permitted when capturing\nx")
    for seed in range(5):
        check(backend, device, random_batch(seed, 200, LONGEST))
    assert caplog.messages == [
        "the GPU starts kernels one by one, as no graph could be made (CUDA error: operation not "
        "permitted when capturing)"
    ]
    device.capture_error = None
    check(backend, device, random_batch(9, 200, LONGEST))
    assert device.captures == 0


def test_a_device_that_is_lost_while_a_graph_is_made(device, caplog):
    backend = make(device)
    device.capture_error = device.lost = RuntimeError("CUDA error: an illegal memory access was")
    with device.watching(), pytest.raises(RuntimeError, match="illegal memory access"):
        for _ in range(3):
            backend.run(random_batch(1, 10, LONGEST))
    assert caplog.messages == []


# --- memory that runs out ---


class HalfWay(Sums):
    """Has begun to compute when the memory runs out."""

    def __call__(self, ids, places, offsets, longest):
        ids + places
        return super().__call__(ids, places, offsets, longest)


@pytest.mark.parametrize("graphs", [True, False])
def test_memory_that_runs_out_half_way(graphs, device):
    network = HalfWay()
    backend = make(device, network, graphs=graphs)
    for seed in range(3):
        check(backend, device, random_batch(seed, 200, LONGEST))
    assert len(backend._graphs) == device.captures
    network.room, freed = 600, device.freed
    check(backend, device, random_batch(7, 100, LONGEST))
    assert (backend.budget, device.freed) == (512, freed + 1)
    assert len(backend._graphs) <= 1, "graphs of streams that are too long are let go"
    before = device.captures
    for seed in range(3):
        check(backend, device, random_batch(seed, 200, LONGEST))
    assert (device.captures > before) == graphs


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_memory_that_runs_out_for_the_inputs_or_outputs_of_a_slot(number, device, monkeypatch):
    made = iter(range(1, number + 1))

    def buffer(size, dtype):
        if next(made, 0) == number:
            raise torch.OutOfMemoryError
        return right(size, dtype)

    right, backend = device.buffer, make(device)
    monkeypatch.setattr(device, "buffer", buffer)
    check(backend, device, random_batch(1, 100, LONGEST))
    assert backend.budget == 512


def test_graphs_are_given_up_before_a_row_is(device):
    network = Sums()
    backend = make(device, network, budget=128)
    batch = random_batch(1, 30, LONGEST)
    check(backend, device, batch)
    assert device.captures > 0

    network.room = 0
    device.free_memory = lambda: setattr(network, "room", None)
    for rows in (40, 30, 20):
        check(backend, device, TokenBatch.from_lists([[1]] * rows))
    for _ in range(4):
        check(backend, device, batch)
    assert (len(backend._graphs), backend.budget) == (0, 128)
    network.room, device.free_memory = 0, lambda: None
    with device.watching(), pytest.raises(EncoderError, match="no memory for a stream of 128 tok"):
        backend.run(batch)


@pytest.mark.parametrize("number", [1, 3, 5, 6])
def test_who_stops_waiting_leaves_both_slots(number, device, monkeypatch):
    """As the host does that is interrupted, or learns of a lost device, at any of its waits."""
    waits = iter(range(1, number + 1))

    def wait(slot):
        if next(waits, 0) == number:
            raise KeyboardInterrupt
        return right(slot)

    right, backend = Slot.wait, make(device)
    monkeypatch.setattr(Slot, "wait", wait)
    with device.watching(), pytest.raises(KeyboardInterrupt):
        backend.run(random_batch(1, 100, LONGEST))
    assert backend._free.qsize() == 2
    for seed in range(3):
        check(backend, device, random_batch(seed, 100, LONGEST))


def test_memory_runs_out_for_two_calls_at_once(device):
    second = threading.Event()

    def fits(batch):
        if len(batch) == 99:
            second.set()
        return np.ones(len(batch), dtype=bool)

    class Waiting(Sums):
        def __call__(self, *arrays):
            # The other call has chosen its lengths by then.
            second.wait(30)
            if len(self.shapes) == 0:
                threading.Event().wait(0.1)
            return super().__call__(*arrays)

    network = Waiting(room=600)
    backend = make(device, network, fits=fits)
    found = in_threads(
        lambda number: check(backend, device, random_batch(1, 98 + number, LONGEST)), 2
    )
    assert found == [None, None]
    assert backend.budget == 512
