"""Packs: rows side by side in batches of one shape."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedkit.encoders.transformer.packing import PackShape, packs
from embedkit.vectors import TokenBatch

PAD = 7
lengths = hnp.arrays(np.int32, st.integers(0, 80), elements=st.integers(0, 40))
shapes = st.builds(PackShape, st.integers(1, 4), st.integers(1, 30), st.integers(1, 6))


def batch_of(lengths, first=100):
    """Rows with an id of its own for every token."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return TokenBatch.from_lists(
        [range(first + start, first + stop) for start, stop in pairwise(starts)]
    )


def rows_of(pack):
    """Reads the rows back out of a pack, whatever made it: line by line, owner by owner."""
    found = {}
    for ids, positions, owners in zip(pack.input_ids, pack.positions, pack.owners, strict=True):
        for owner in set(owners.tolist()) - {0}:
            places = np.flatnonzero(owners == owner)
            assert places.tolist() == list(range(places[0], places[-1] + 1)), "in one piece"
            assert positions[places].tolist() == list(range(len(places)))
            row = int(pack.rows[owner - 1])
            assert row not in found, "in one line"
            found[row] = ids[places].tolist()
        assert (ids[owners == 0] == PAD).all()
        assert (positions[owners == 0] == 0).all()
    return found


@given(lengths, shapes)
def test_every_row_is_whole_in_one_pack_or_left_over(lengths, shape):
    batch = batch_of(lengths)
    whole, left = packs(batch, shape, PAD)
    found = {}
    for pack in whole:
        for array in (pack.input_ids, pack.positions, pack.owners):
            assert array.shape == (shape.lines, shape.width)
            assert array.dtype == np.int32
        rows = rows_of(pack)
        assert sorted(rows) == sorted(pack.rows.tolist())
        assert not rows.keys() & found.keys()
        found |= rows
    assert sorted([*found, *left.tolist()]) == list(range(len(lengths)))
    assert left.tolist() == sorted(left.tolist())
    for row, ids in found.items():
        assert ids == batch.input_ids[batch.offsets[row] : batch.offsets[row + 1]].tolist()


@given(lengths, shapes)
def test_lines_are_full_enough_and_hold_no_more_rows_than_they_may(lengths, shape):
    for pack in packs(batch_of(lengths), shape, PAD)[0]:
        for owners in pack.owners:
            assert (owners == 0).sum() <= shape.width / 10
            assert len(set(owners.tolist()) - {0}) <= shape.line_rows


def test_mixed_lengths_leave_hardly_any_fill():
    lengths = np.random.default_rng(0).integers(1, 200, size=1000).astype(np.int32)
    whole, left = packs(batch_of(lengths), PackShape(4, 256, 32), PAD)
    slots = sum(pack.owners.size for pack in whole)
    assert lengths[left].sum() < 0.02 * lengths.sum()
    assert lengths.sum() - lengths[left].sum() > 0.99 * slots


def test_rows_that_fill_lines_badly_are_left_over():
    batch = batch_of(np.full(50, 140, dtype=np.int32))
    whole, left = packs(batch, PackShape(4, 256, 32), PAD)
    assert list(whole) == []
    assert left.tolist() == list(range(50))


def test_rows_with_the_fill_among_their_tokens_are_left_over():
    rows = [[1, 2, 3], [4, PAD, 5], [PAD, 1, 2], [], [6, 8, 9], [1, 1, PAD]]
    whole, left = packs(TokenBatch.from_lists(rows), PackShape(2, 3, 1), PAD)
    assert [pack.rows.tolist() for pack in whole] == [[0, 4]]
    assert left.tolist() == [1, 2, 3, 5]


@given(lengths, shapes)
def test_equal_batches_give_equal_packs(lengths, shape):
    first, second = (packs(batch_of(lengths), shape, PAD) for _ in range(2))
    assert first[1].tolist() == second[1].tolist()
    for one, other in zip(*(list(found[0]) for found in (first, second)), strict=True):
        assert one.input_ids.tobytes() == other.input_ids.tobytes()
        assert one.rows.tolist() == other.rows.tolist()


def test_nothing_to_pack():
    whole, left = packs(batch_of(np.empty(0, dtype=np.int32)), PackShape(2, 8, 4), PAD)
    assert list(whole) == []
    assert left.tolist() == []
