"""Batches by a token budget."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedkit.encoders.transformer.batching import (
    fixed_widths,
    padded,
    token_batches,
    width_batches,
    width_of,
)
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


rising = st.sets(st.integers(1, 300), max_size=5).map(lambda widths: tuple(sorted(widths)))


@given(lengths, st.integers(1, 2000), rising)
def test_batches_of_fixed_widths_have_every_row_once_within_the_budget(lengths, budget, widths):
    batches = width_batches(lengths, budget, widths)
    rows = [row for batch in batches for row in batch.tolist()]
    assert rows == sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for batch in batches:
        assert len(batch) >= 1
        width = width_of(lengths[batch], widths)
        assert len(batch) == 1 or len(batch) * width <= budget


@given(
    hnp.arrays(np.int32, st.integers(1, 600), elements=st.integers(0, 60)),
    st.integers(60, 4000),
    rising,
)
def test_no_other_cut_between_widths_costs_less(lengths, budget, widths):
    """Held against all cuts, of rows that are as wide as the next of the widths."""
    wide = sorted((width_of(np.array([length]), widths) for length in lengths), reverse=True)
    # Beyond the widths, rows are as wide as the longest.
    wide = [width if width in widths else wide[0] for width in wide]
    borders = [row for row in range(1, len(wide)) if wide[row] != wide[row - 1]]
    costs = []
    for number in range(len(borders) + 1):
        for cuts in combinations(borders, number):
            cost = 0
            for first, last in pairwise((0, *cuts, len(wide))):
                batches = -(-(last - first) // max(budget // wide[first], 1))
                cost += (last - first) * wide[first] + 1_024 * batches
            costs.append(cost)
    batches = width_batches(lengths, budget, widths)
    found = sum(len(batch) * width_of(lengths[batch], widths) + 1_024 for batch in batches)
    # A batch of a group may be less wide than the group's first.
    assert found <= min(costs)


@pytest.mark.parametrize("longest", [1, 8, 17, 200, 256, 500, 512, 8_192])
def test_fixed_widths_are_close_to_each_other_and_end_with_the_longest(longest):
    widths = fixed_widths(longest)
    assert list(widths) == sorted(set(widths))
    assert widths[-1] == longest
    assert all(width % 8 == 0 for width in widths[:-1])
    assert all(b - a <= max(8, a / 8) for a, b in pairwise((0, *widths)))
    assert len(widths) <= 16 + 8 * max(0, longest.bit_length() - 7)


@given(lengths.filter(len), rising)
def test_padding_to_a_fixed_width(lengths, widths):
    rows = [list(range(1, length + 1)) for length in lengths]
    batch = TokenBatch.from_lists(rows)
    exactly, wider = padded(batch, 7), padded(batch, 7, widths)
    longest = exactly[0].shape[1]
    width = min((width for width in widths if width >= longest), default=longest)
    for array, more, fill in zip(exactly, wider, (7, 0), strict=True):
        assert more.shape == (len(rows), width)
        np.testing.assert_array_equal(more[:, :longest], array)
        assert (more[:, longest:] == fill).all()
