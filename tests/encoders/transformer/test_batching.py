"""Batches by a token budget."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedkit.encoders.transformer.batching import padded, token_batches
from embedkit.vectors import TokenBatch

lengths = hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(0, 300))


@given(lengths, st.integers(1, 2000))
def test_every_row_once_within_the_budget(lengths, budget):
    batches = token_batches(lengths, budget)
    rows = np.concatenate(batches) if batches else np.empty(0, int)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) >= 1
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(lengths, st.integers(1, 2000))
def test_rows_are_sorted_by_length_and_equal_lengths_keep_their_order(lengths, budget):
    rows = [row for batch in token_batches(lengths, budget) for row in batch.tolist()]
    assert rows == sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))


@given(lengths, st.integers(300, 2000))
def test_no_batch_could_have_taken_one_row_more(lengths, budget):
    batches = token_batches(lengths, budget)
    for batch in batches[:-1]:
        assert (len(batch) + 1) * max(lengths[batch].max(), 1) > budget


def test_no_rows():
    assert token_batches(np.empty(0, dtype=np.int32), 100) == []


@given(lengths.filter(len))
def test_padding(lengths):
    rows = [list(range(1, length + 1)) for length in lengths]
    ids, mask = padded(TokenBatch.from_lists(rows), pad_id=7)
    assert ids.shape == mask.shape == (len(rows), max(lengths.max(), 1))
    assert ids.dtype == mask.dtype == np.int64
    for row, row_ids, row_mask in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        fill = len(row_ids) - len(row)
        assert row_ids == row + [7] * fill
        assert row_mask == [1] * len(row) + [0] * fill
