"""The torch backend: memory that runs out, the order of rows, batches within the budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embedkit.encoders.transformer.span_pooling import pool_spans
from embedkit.encoders.transformer.torch_backend import TorchBackend
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, TokenSpans

MAX = ("max",)


class Scarce(torch.nn.Module):
    """Gives each row's sum and length, and has memory for a number of padded tokens only."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.shapes: list[tuple[int, int]] = []

    def forward(self, ids, mask):
        self.shapes.append(tuple(ids.shape))
        if ids.numel() > self.room:
            raise torch.OutOfMemoryError("out of memory, on purpose")
        return torch.stack([(ids * mask).sum(1), mask.sum(1)], dim=1).float()


class Head:
    """Makes vectors of spans."""

    pooling = MAX

    def __call__(self, hidden, places, offsets):
        return pool_spans(hidden, places, offsets, MAX)


class ScarceTokens(Scarce):
    """Gives each token its id and its row's length, within the same memory."""

    spans = Head()

    def hidden(self, ids, mask):
        self.forward(ids, mask)
        return torch.stack([ids, mask.sum(1, keepdim=True).expand_as(ids)], dim=2).float()


@pytest.fixture
def batch() -> TokenBatch:
    random = np.random.default_rng(5)
    return TokenBatch.from_lists(
        random.integers(1, 50, size=length).tolist() for length in random.integers(1, 20, size=40)
    )


def expected(batch: TokenBatch) -> np.ndarray:
    sums = np.add.reduceat(batch.input_ids, batch.offsets[:-1])
    return np.stack([sums, batch.lengths], axis=1).astype(np.float32)


def run(network, batch, batch_tokens=200):
    return TorchBackend(network, "cpu", batch_tokens, pad_id=3).run(batch)


def test_rows_come_back_in_their_order(batch):
    network = Scarce(room=10_000)
    np.testing.assert_array_equal(run(network, batch), expected(batch))
    assert all(rows * tokens <= 200 for rows, tokens in network.shapes)


@pytest.mark.parametrize("widths", [(), (4, 8, 16, 20)])
@pytest.mark.parametrize("room", [10_000, 100, 40, 20])
def test_spans_come_back_in_their_order_whatever_fits(room, widths, batch):
    random = np.random.default_rng(3)
    spans = [np.sort(random.integers(0, n + 1, size=(n % 4, 2))) for n in batch.lengths]
    spans = [of_row[of_row[:, 0] < of_row[:, 1]].astype(np.int32) for of_row in spans]
    flat = np.concatenate(spans)
    offsets = np.cumsum([0, *map(len, spans)]).astype(np.int32)
    asked = replace(batch, spans=TokenSpans(flat[:, 0].copy(), flat[:, 1].copy(), offsets))
    ids = [batch.input_ids[batch.offsets[row] :] for row in range(len(batch))]
    expected = [
        [ids[row][start:end].max(), batch.lengths[row]]
        for row in range(len(batch))
        for start, end in spans[row]
    ]
    backend = TorchBackend(ScarceTokens(room), "cpu", 200, pad_id=3, widths=widths)
    assert backend.run(asked).tolist() == expected


def test_the_fill_is_counted():
    backend = TorchBackend(Scarce(room=10_000), "cpu", batch_tokens=12, pad_id=3)
    backend.run(TokenBatch.from_lists([[1], [1] * 6, [1] * 5, [1] * 2]))
    assert backend.computed_tokens == 2 * 6 + 2 * 2


@pytest.mark.parametrize("room", [100, 40, 19])
def test_batches_are_halved_until_they_fit(room, batch):
    network = Scarce(room)
    np.testing.assert_array_equal(run(network, batch), expected(batch))
    assert max(rows * tokens for rows, tokens in network.shapes) > room
    # Every batch halves at most down to single rows: twice as many calls as rows, and no more.
    assert len(network.shapes) <= 2 * len(batch)


@pytest.mark.parametrize("widths", [(), (4, 8, 16, 20)])
@pytest.mark.parametrize("room", [150, 100, 40])
def test_a_budget_that_did_not_fit_is_not_tried_again(room, widths, batch):
    network = Scarce(room)
    backend = TorchBackend(network, "cpu", batch_tokens=200, pad_id=3, widths=widths)
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    tried = [rows * tokens for rows, tokens in network.shapes]
    failed = sum(tokens > room for tokens in tried)
    assert 1 <= failed <= 3, "the budget is halved, for later batches of the call as well"
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    again = [rows * tokens for rows, tokens in network.shapes[len(tried) :]]
    # Less than half of what fits, but for a row, would have been halved too often.
    assert room / 2 - 20 < max(again) <= room


def test_batches_of_fixed_widths_are_as_wide_as_these(batch):
    network = Scarce(room=10_000)
    backend = TorchBackend(network, "cpu", batch_tokens=100, pad_id=3, widths=(8, 16))
    np.testing.assert_array_equal(backend.run(batch), expected(batch))
    # Rows that are longer than any are as wide as the longest of them.
    assert {tokens for _, tokens in network.shapes} == {8, 16, int(batch.lengths.max())}
    assert all(rows * tokens <= 100 for rows, tokens in network.shapes)
    assert backend.computed_tokens == sum(rows * tokens for rows, tokens in network.shapes)


def test_one_row_that_does_not_fit_ends_it(batch):
    network = Scarce(room=10)
    with pytest.raises(EncoderError, match=r"no memory for one text of 1\d tokens; take a lower"):
        run(network, batch)
    assert len(network.shapes) <= 2 * len(batch)


def test_other_errors_are_not_swallowed(batch):
    class Broken(torch.nn.Module):
        def forward(self, ids, mask):
            raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side assert"):
        run(Broken(), batch)


def test_each_model_runs_with_its_own_threads_whatever_was_loaded_or_set_since(batch):
    seen = []

    class Noting(Scarce):
        def forward(self, ids, mask):
            seen.append(torch.get_num_threads())
            return super().forward(ids, mask)

    before = torch.get_num_threads()
    try:
        first, second = (TorchBackend(Noting(9999), "cpu", 9999, 0, n) for n in (1, 2))
        for backend in (first, second, first):
            backend.run(batch)
        torch.set_num_threads(2)
        first.run(batch)
        left = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2, 1, 1]
    assert left == 2
