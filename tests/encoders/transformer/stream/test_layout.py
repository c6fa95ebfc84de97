"""Streams: rows one after the other, in a few fixed lengths."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedkit.encoders.transformer.stream.layout import stream_lengths, streams
from embedkit.flow.encode import call_batches
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

PAD = 7
LONGEST = 40
rows_of_any_length = hnp.arrays(np.int32, st.integers(0, 80), elements=st.integers(0, LONGEST))
any_lengths = st.sets(st.integers(1, 300), max_size=3).map(
    lambda shorter: tuple(sorted(shorter | {320}, reverse=True))
)


def batch_of(lengths):
    """Rows with an id of its own for every token."""
    ends = np.cumsum([0, *lengths], dtype=np.int32)
    return TokenBatch(np.arange(100, 100 + ends[-1], dtype=np.int32), ends)


def segments(stream):
    """Reads the ids of all rows of a stream, token by token."""
    found = [[] for _ in stream.offsets[1:]]
    for row, (start, stop) in enumerate(pairwise(stream.offsets.tolist())):
        for token in range(start, stop):
            assert stream.places[token] == token - start
            found[row].append(int(stream.input_ids[token]))
    return found


@given(rows_of_any_length, any_lengths)
def test_every_row_is_whole_in_one_stream_and_the_rest_is_dummy_rows(lengths, shapes):
    batch = batch_of(lengths)
    found = {}
    for stream in streams(batch, shapes, LONGEST, PAD):
        length, slots = len(stream.input_ids), len(stream.offsets) - 1
        assert length in shapes
        assert stream.input_ids.dtype == stream.places.dtype == stream.offsets.dtype == np.int32
        assert stream.places.shape == (length,)
        assert stream.offsets[0] == 0
        assert stream.offsets[-1] == length
        assert slots >= 16
        assert slots & (slots - 1) == 0
        read = segments(stream)
        real, others = read[: len(stream.rows)], read[len(stream.rows) :]
        found |= dict(zip(stream.rows.tolist(), real, strict=True))
        dummies = [other for other in others if other]
        assert others == [*dummies, *[[]] * (len(others) - len(dummies))], "empty ones at the end"
        assert stream.longest == LONGEST
        assert all(len(dummy) <= LONGEST and set(dummy) == {PAD} for dummy in dummies)
        assert slots == 16 or slots < 2 * (len(real) + len(dummies))
        assert sum(map(len, read)) == length
    rows = [list(range(100 + a, 100 + b)) for a, b in pairwise(batch.offsets.tolist())]
    assert found == dict(enumerate(rows))
    assert sum(len(s.rows) for s in streams(batch, shapes, LONGEST, PAD)) == len(rows), "once each"


@given(rows_of_any_length, any_lengths)
def test_equal_batches_give_equal_streams(lengths, shapes):
    first, second = (streams(batch_of(lengths), shapes, LONGEST, PAD) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        for name in ("rows", "input_ids", "places", "offsets"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


@given(rows_of_any_length.filter(lambda lengths: lengths.sum() > 320))
def test_no_row_waits_that_would_have_fitted(lengths):
    """Each stream, as brute force has it: row by row, always the longest that still fits."""
    waiting = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for stream in streams(batch_of(lengths), (320, 64), LONGEST, PAD):
        room, expected = len(stream.input_ids), []
        for row in list(waiting):
            if lengths[row] <= room:
                room -= lengths[row]
                waiting.remove(row)
                expected.append(row)
        assert stream.rows.tolist() == expected
    assert not waiting


def test_a_row_that_no_stream_may_hold_is_named():
    with pytest.raises(ValueError, match="a row of 9 tokens, where the longest may have 8"):
        list(streams(batch_of([3, 9]), (32,), 8, PAD))
    with pytest.raises(ValueError, match="a row of 9 tokens, where the longest may have 4"):
        list(streams(batch_of([3, 9]), (4,), 16, PAD))


def test_no_rows_need_no_stream():
    assert list(streams(batch_of([]), (320, 64), LONGEST, PAD)) == []


@given(st.integers(1, 300_000), st.integers(1, 10_000))
def test_lengths_are_few_and_fall_from_the_budget(budget, longest):
    lengths = stream_lengths(budget, longest)
    assert 1 <= len(lengths) <= 4
    assert list(lengths) == sorted(set(lengths), reverse=True)
    assert longest <= lengths[0] <= max(budget, longest)
    assert lengths[0] > max(budget, longest) - 128
    assert all(length % 128 == 0 and length >= 512 for length in lengths[1:])


@pytest.mark.parametrize(
    ("budget", "longest", "lengths"),
    [
        (65_536, 512, (65_536, 16_384, 4_096, 1_024)),
        (65_536, 8_192, (65_536, 16_384, 4_096, 1_024)),
        (131_072, 512, (131_072, 32_768, 8_192, 1_024)),
        (32_768, 512, (32_768, 8_192, 2_048, 512)),
        (50_000, 512, (49_920, 12_416, 3_072, 768)),
        (514, 514, (514,)),
        (100, 512, (512,)),
        (12, 6, (12,)),
    ],
)
def test_lengths(budget, longest, lengths):
    assert stream_lengths(budget, longest) == lengths


def fill_of(calls, lengths, longest):
    """Returns the share of dummy tokens, and streams per call."""
    shapes = [len(s.input_ids) for call in calls for s in streams(call, lengths, longest, PAD)]
    tokens = sum(len(call.input_ids) for call in calls)
    return 1 - tokens / sum(shapes), len(shapes) / len(calls)


@pytest.fixture(scope="module")
def wikitext(public_data, minilm) -> TokenBatch:
    """All lines of WikiText-2 that are not empty, as all-MiniLM-L6-v2 sees them."""
    files = [public_data / "wikitext2" / name for name in ("valid.txt", "test.txt")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")]
    counts = load_tokenizer(TokenizerSpec(minilm, 256)).count([line for line in lines if line])
    return batch_of(np.minimum(counts, 256))


@pytest.mark.parametrize("budget", [256, 512, 4_096, 20_000, 65_536, 100_000, 131_072])
def test_wikitext_in_the_calls_of_the_flow_leaves_hardly_any_fill(wikitext, budget):
    calls = [call for _, call in call_batches(wikitext, 131_072, mixed="full")]
    assert fill_of(calls, stream_lengths(budget, 256), 256)[0] < 0.01


@pytest.mark.parametrize("call_tokens", [16_384, 65_536])
def test_small_calls_leave_hardly_more(wikitext, call_tokens):
    calls = [call for _, call in call_batches(wikitext, call_tokens, mixed="full")]
    assert fill_of(calls, stream_lengths(65_536, 256), 256)[0] < 0.02


def test_calls_of_any_size_leave_little_fill(wikitext):
    """What is not full is cut into several lengths, of which the shortest fits the rest."""
    calls = [wikitext.take(np.arange(rows)) for rows in range(700, len(wikitext), 150)]
    assert fill_of(calls, stream_lengths(65_536, 256), 256)[0] < 0.015


def test_streams_are_few_as_each_costs_a_start(wikitext):
    calls = [call for _, call in call_batches(wikitext, 131_072, mixed="full")]
    assert fill_of(calls, stream_lengths(65_536, 256), 256)[1] <= 2.5


def test_nothing_but_long_rows_take_long_streams():
    """Of 16,384 tokens two rows of 6,500 leave a fifth, and streams of 65,536 much less."""
    lengths = np.random.default_rng(3).integers(5_000, 8_193, size=200)
    calls = [call for _, call in call_batches(batch_of(lengths), 131_072, mixed="full")]
    fill, number = fill_of(calls, stream_lengths(65_536, 8_192), 8_192)
    assert fill < 0.09
    assert number <= 3


@pytest.mark.parametrize(
    ("length", "most", "longest"),
    [(9, 512, 512), (9, 300, 300), (9, 8_192, 512), (513, 8_192, 1_024), (1_024, 8_192, 1_024),
     (5_000, 8_192, 8_192), (5_000, 6_000, 6_000)],
)  # fmt: skip
def test_the_longest_row_is_told_by_few_values(length, most, longest):
    """A kernel starts work for all that a row may have, and graphs are made for each value."""
    (stream,) = streams(batch_of([length, 3]), (8_192,), most, PAD)
    assert stream.longest == longest
    assert length <= np.diff(stream.offsets).max() <= longest


def test_one_query_takes_the_shortest_stream():
    (stream,) = streams(batch_of([9]), stream_lengths(65_536, 512), 512, PAD)
    assert (len(stream.input_ids), len(stream.offsets) - 1) == (1_024, 16)
    # The fill is more than one row may have.
    assert stream.offsets[:5].tolist() == [0, 9, 521, 1_024, 1_024]
