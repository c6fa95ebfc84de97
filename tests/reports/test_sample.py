import hashlib
import json
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from reporting import read_of, sample_of

from embedkit.reports.sample import MOST_ROWS, RowKeys, Sample, excerpt, keys_of, read_sample
from embedkit.vectors import Vectors

SIZES = [300, 3, 0, 600, 20, 1, *[45] * 20]
CODEC = TypeAdapter(RowKeys)


@pytest.fixture(scope="module")
def blocks(make_block):
    return [
        make_block([f"text {seq} {place}" for place in range(count)], seq=seq)
        for seq, count in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def keys(blocks):
    return [RowKeys.of(block) for block in blocks]


@pytest.fixture(scope="module")
def sample(blocks):
    return sample_of(*blocks)


def same(one, two):
    return CODEC.dump_python(one, mode="json") == CODEC.dump_python(two, mode="json")


def key(name):
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def test_the_rows_with_the_smallest_hashes_are_taken(sample):
    ids = [f"{seq}/{place}" for seq, count in enumerate(SIZES) for place in range(count)]
    assert len(ids) > 2 * MOST_ROWS
    assert [row.id for row in sample.rows] == sorted(ids, key=key)[:MOST_ROWS]
    assert [row.key for row in sample.rows] == sorted(map(key, ids))[:MOST_ROWS]


def test_a_row_has_its_own_vector_and_text(sample, blocks):
    for row, vector in zip(sample.rows, sample.vectors, strict=True):
        seq, place = map(int, row.id.split("/"))
        assert row.text == f"text {seq} {place}"
        assert row.row_index == place
        assert np.array_equal(vector, blocks[seq].vectors.matrix[place])


@settings(max_examples=30)
@given(st.permutations(range(len(SIZES))), st.integers(1, len(SIZES) - 1))
def test_order_and_grouping_do_not_matter(keys, order, cut):
    def add(parts):
        return reduce(lambda one, two: one + two, parts, RowKeys())

    shuffled = [keys[place] for place in order]
    assert same(add(shuffled[:cut]) + add(shuffled[cut:]), add(keys))


def test_few_blocks_are_read_for_their_ids_and_few_rows_for_the_rest(blocks, keys):
    asked = []

    def read(wanted):
        asked.append(wanted)
        return read_of(blocks)(wanted)

    read_sample(sum(keys, RowKeys()), read)
    ids, rows = asked
    assert all(one.columns == ("id",) and one.rows is None for one in ids)
    # Those that hold more of the smallest than their sidecars tell.
    assert [one.block_id for one in ids] == ["00000-00000", "00000-00003"]
    assert sum(len(one.rows) for one in rows) == MOST_ROWS
    assert [one.block_id for one in rows] == sorted({one.block_id for one in rows})


@pytest.mark.parametrize(("blocks", "rows"), [(1, 40), (1, 700), (40, 300), (600, 2)])
def test_no_more_than_sixteen_blocks_are_read_for_their_ids(blocks, rows):
    random = np.random.default_rng(blocks)
    total = RowKeys()
    for seq in range(blocks):
        smallest = np.sort(random.integers(0, 2**64, rows, dtype=np.uint64))[:32]
        places = np.arange(len(smallest))
        total += RowKeys.of_block(f"00000-{seq:05d}", 512, smallest, places, rows)
    assert len(total.unsure()) <= (16 if blocks * rows > 512 else blocks)
    assert len(total) <= 512


def test_small_blocks_need_no_second_look(make_block):
    few = [make_block([f"t {n}" for n in range(30)], seq=seq) for seq in range(40)]
    assert sum(map(RowKeys.of, few), RowKeys()).unsure() == []


def test_json_form_comes_back(keys):
    for one in (keys[0], RowKeys(), sum(keys, RowKeys())):
        written = json.dumps(CODEC.dump_python(one, mode="json"))
        assert same(CODEC.validate_python(json.loads(written)), one)


def test_keys_whose_rows_are_not_known_are_looked_up(blocks, sample):
    """As a sidecar of an earlier release has them."""

    def of_earlier(block):
        keys = keys_of(block.rows.column("id"))
        smallest = np.sort(keys)[:MOST_ROWS]
        unknown = np.full(len(smallest), -1)
        return RowKeys.of_block(block.block_id, MOST_ROWS, smallest, unknown, len(keys))

    for earlier in (blocks, blocks[3:4], blocks[::2]):
        known = [block for block in blocks if block not in earlier]
        keys = sum([*map(RowKeys.of, known), *map(of_earlier, earlier)], RowKeys())
        found = read_sample(keys, read_of(blocks), texts=True)
        assert found.rows == sample.rows
        assert np.array_equal(found.vectors, sample.vectors)


def test_texts_that_parts_do_not_hold_are_kept_with_the_keys(blocks, sample):
    bare = [block.with_rows(block.rows.drop_columns(["text"])) for block in blocks]
    keys = sum([RowKeys.of(block, keep_texts=True) for block in blocks], RowKeys())
    assert read_sample(keys, read_of(bare), texts=True).rows == sample.rows
    assert {row.text for row in sample_of(*bare).rows} == {""}


def test_a_slice_of_a_batch_is_sampled_where_it_stands(make_block):
    block = make_block([f"text {place}" for place in range(100)])
    cut = block.with_rows(block.rows.slice(40, 20))
    sample = sample_of(cut)
    assert {row.row_index for row in sample.rows} == set(range(40, 60))
    for row, vector in zip(sample.rows, sample.vectors, strict=True):
        assert np.array_equal(vector, block.vectors.matrix[row.row_index])


def test_very_long_vectors_are_fewer(make_block):
    blocks = [
        make_block(["word"] * 300, vectors=np.ones((300, 4096), np.float32), seq=seq)
        for seq in range(2)
    ]
    assert len(sample_of(blocks[0]).rows) == 128
    assert len(sample_of(*blocks).rows) == 128


def test_a_row_of_many_vectors_is_seen_as_their_sum(make_block):
    random = np.random.default_rng(4)
    many = [random.normal(size=(n % 4, 8)).astype(np.float32) for n in range(60)]
    rows = make_block([f"text {n}" for n in range(60)]).rows
    place = rows.schema.get_field_index("embedding")
    column = Vectors.from_rows(many, 8).to_arrow()
    block = make_block([]).with_rows(rows.set_column(place, "embedding", column))
    sample = sample_of(block)
    assert len(sample.rows) == 60
    for row, vector in zip(sample.rows, sample.vectors, strict=True):
        assert np.allclose(vector, many[row.row_index].sum(axis=0), atol=1e-5)


def test_a_sample_of_nothing():
    assert sample_of().rows == ()
    assert sample_of().vectors.shape == Sample().vectors.shape


def test_an_excerpt_shows_that_the_text_goes_on():
    assert excerpt("a" * 160) == "a" * 160
    assert excerpt("a" * 161) == "a" * 160 + "\u2026"
