"""Which rows with their vectors are drawn."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.reports import vector_sample
from embedkit.reports.vector_sample import MOST_SAMPLED, SampledVectors, VectorSample, key_bound

SIZES = [30, 3, 0, 60, 20, 1]


def key(name):
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


@pytest.fixture(scope="module")
def blocks(make_block):
    return [
        make_block([f"text {seq} {place}" for place in range(count)], seq=seq, split=seq)
        for seq, count in enumerate(SIZES)
    ]


def sampled(blocks, bound):
    first, pieces = 0, []
    for block in blocks:
        rows = pa.Table.from_batches([block.rows])
        pieces.append(VectorSample.of(rows, block.vectors.matrix, first, bound))
        first += len(rows)
    return pieces


def test_the_rows_with_the_smallest_hashes_are_drawn(blocks, monkeypatch):
    monkeypatch.setattr(vector_sample, "MOST_SAMPLED", 40)
    drawn = sum(sampled(blocks, key_bound(sum(SIZES))), VectorSample()).drawn()
    ids = [f"{seq}/{place}" for seq, count in enumerate(SIZES) for place in range(count)]
    smallest = sorted(ids, key=key)[: len(drawn)]
    assert 30 < len(drawn) <= 40
    assert drawn.keys.tolist() == sorted(map(key, smallest))
    assert drawn.places.tolist() == [ids.index(name) for name in smallest]
    every = np.concatenate([block.vectors.matrix for block in blocks if block.rows.num_rows])
    assert np.array_equal(drawn.vectors, every[drawn.places])
    texts = pa.concat_arrays([block.rows.column("text_hash") for block in blocks]).to_pylist()
    assert [f"{one:016x}" for one in drawn.texts.tolist()] == [
        texts[place][:16] for place in drawn.places
    ]


@settings(max_examples=30)
@given(st.permutations(range(len(SIZES))), st.integers(0, len(SIZES)))
def test_order_and_grouping_do_not_matter(blocks, order, cut):
    pieces = sampled(blocks, key_bound(0))
    shuffled = [pieces[place] for place in order]
    one = sum(shuffled[:cut], VectorSample()) + sum(shuffled[cut:], VectorSample())
    expected = sum(pieces, VectorSample()).drawn()
    assert np.array_equal(one.drawn().places, expected.places)
    assert np.array_equal(one.drawn().vectors, expected.vectors)


def test_all_rows_of_few_are_taken_and_a_little_more_than_needed_of_many():
    assert key_bound(MOST_SAMPLED) == 2**64
    assert key_bound(100 * MOST_SAMPLED) / 2**64 == pytest.approx(0.0105)


def test_of_very_long_vectors_fewer_are_drawn(blocks, monkeypatch):
    monkeypatch.setattr(vector_sample, "_MOST_COMPONENTS", 80)
    assert len(sum(sampled(blocks, key_bound(0)), VectorSample()).drawn()) == 10


def test_rows_without_a_direction_are_told():
    vectors = np.array([[1, 2], [0, 0], [np.nan, 1], [np.inf, 1], [3e38, 3e38]], np.float32)
    hashes = np.arange(5, dtype=np.uint64)
    nothing = np.full(5, None, object)
    rows = SampledVectors(hashes, np.arange(5), hashes, hashes, vectors, nothing, nothing)
    assert rows.usable.tolist() == [True, False, False, False, True]
    units = rows.take(rows.usable).units
    assert np.allclose(np.linalg.norm(units, axis=1), 1)
    assert len(VectorSample().drawn()) == 0
    assert not len(SampledVectors.none().usable)
