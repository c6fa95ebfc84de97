import hashlib
import json
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.reports.sample import MOST_ROWS, Sample, excerpt


@pytest.fixture(scope="module")
def samples(make_block):
    return [
        Sample.of(make_block([f"text {seq} {place}" for place in range(300)], seq=seq))
        for seq in range(4)
    ]


def same(one, two):
    return one.rows == two.rows and np.array_equal(one.vectors, two.vectors)


def test_the_rows_with_the_smallest_hashes_are_taken(samples):
    ids = [f"{seq}/{place}" for seq in range(4) for place in range(300)]
    key = {
        name: int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        for name in ids
    }
    total = reduce(lambda one, two: one + two, samples)
    assert [row.id for row in total.rows] == sorted(ids, key=key.get)[:MOST_ROWS]
    assert [row.key for row in total.rows] == sorted(key.values())[:MOST_ROWS]


def test_a_row_keeps_its_own_vector_and_text(samples, make_block):
    blocks = [
        make_block([f"text {seq} {place}" for place in range(300)], seq=seq) for seq in range(4)
    ]
    total = reduce(lambda one, two: one + two, samples)
    for row, vector in zip(total.rows, total.vectors, strict=True):
        seq, place = map(int, row.id.split("/"))
        assert row.text == f"text {seq} {place}"
        assert row.row_index == place
        assert np.array_equal(vector, blocks[seq].vectors.matrix[place])


@settings(max_examples=30)
@given(st.permutations(range(4)), st.integers(1, 3))
def test_order_and_grouping_do_not_matter(samples, order, cut):
    def add(parts):
        return reduce(lambda one, two: one + two, parts, Sample.empty())

    shuffled = [samples[place] for place in order]
    assert same(add(shuffled[:cut]) + add(shuffled[cut:]), add(samples))


def test_json_form_comes_back(samples):
    for sample in (samples[0], Sample.empty()):
        assert same(Sample.from_dict(json.loads(json.dumps(sample.to_dict()))), sample)


def test_a_slice_of_a_batch_is_sampled_where_it_stands(make_block):
    block = make_block([f"text {place}" for place in range(100)])
    cut = block.with_rows(block.rows.slice(40, 20))
    sample = Sample.of(cut)
    assert {row.row_index for row in sample.rows} == set(range(40, 60))
    for row, vector in zip(sample.rows, sample.vectors, strict=True):
        assert np.array_equal(vector, block.vectors.matrix[row.row_index])


def test_very_long_vectors_are_fewer(make_block):
    block = make_block(["word"] * 300, vectors=np.ones((300, 4096), np.float32))
    sample = Sample.of(block)
    assert len(sample.rows) == 128
    assert len((sample + sample).rows) == 128


def test_an_excerpt_shows_that_the_text_goes_on():
    assert excerpt("a" * 160) == "a" * 160
    assert excerpt("a" * 161) == "a" * 160 + "\u2026"
