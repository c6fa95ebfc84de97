"""Blocks of which an earlier version has some rows: only the others are encoded."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from blocks import token_block
from hypothesis import given
from hypothesis import strategies as st
from running import SumClient

from embedkit.dataset.version import Version
from embedkit.encoders.spec import VectorSpec
from embedkit.flow.earlier_rows import Taken
from embedkit.flow.encode import encode_tokens
from embedkit.records import SPANS_FIELD, WINDOW_SPAN, TokenBlock
from embedkit.vectors import EmbeddingBlock, Vectors

OF_ROWS = VectorSpec(4, normalize=False, metric="dot")
OF_TOKENS = replace(OF_ROWS, of="token")


class Earlier:
    """Has marked vectors, 1000 and up, of the texts with the given ids of tokens."""

    def __init__(self, texts, known=(), same=(), numerics=()):
        self.version = Version("/nowhere", "v0")
        self._texts, self._known, self._same, self._numerics = texts, known, same, numerics

    def take(self, rows, vectors, how, counts=None):
        self.counts = counts
        texts = rows.column("text").to_pylist()
        places = np.array([n for n, text in enumerate(texts) if text in self._texts], np.intp)
        every = np.ones(len(places), np.int32) if counts is None else counts[places]
        of_rows = [
            np.full((count, 4), 1000 + self._texts.index(texts[place]), how.number)
            for place, count in zip(places, every, strict=True)
        ]
        found = Vectors.from_rows(of_rows, 4, how.number)
        if counts is None:
            found = Vectors(found.values, 4)
        ids = rows.column("id").to_pylist()
        # In two pieces, as if of two parts, the later rows first.
        cut = len(places) // 2
        pieces = [
            (places[part], found.take(np.arange(len(places))[part]))
            for part in (slice(cut, None), slice(cut))
            if len(places[part])
        ]
        known, same = (np.isin(ids, list(names)) for names in (self._known, self._same))
        return Taken(pieces, known, same, tuple(self._numerics))


class NeverAsked:
    def encode_all(self, batches):
        raise AssertionError("an encoder was asked")


def text(ids) -> str:
    return " ".join(map(str, ids))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@given(
    ids=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), max_size=20),
    known=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), max_size=40),
)
def test_the_rest_is_encoded_once_each(dtype, ids, known):
    texts = [text(one) for one in known]
    earlier, client = Earlier(texts), SumClient()
    block = encode_tokens(token_block(ids), client, 7, dtype, False, OF_ROWS, earlier)
    left = {tuple(one) for one in ids if text(one) not in texts}
    sent = [tuple(c.input_ids[a:b]) for c in client.calls for a, b in pairwise(c.offsets)]
    assert sorted(sent) == sorted(left)
    assert block.tokens_encoded == sum(map(len, left))
    found = block.vectors
    assert len(found) == len(ids)
    for row, one in zip(found.stacked, ids, strict=True):
        marked = [1000 + texts.index(text(one))] * 4 if text(one) in texts else None
        expected = np.array(marked or SumClient().vector(np.array(one)), np.float32).astype(dtype)
        assert row.tobytes() == expected.tobytes()
    saved = [one for one in ids if text(one) in texts]
    assert block.reused.version == "v0"
    assert (block.reused.rows, block.reused.tokens) == (len(saved), sum(map(len, saved)))


def test_no_encoder_is_asked_where_all_is_there():
    block = token_block([[1], [2, 3], [1]])
    earlier = Earlier(["1", "2 3"], ["d0:0", "d1:1"], ["d0:0"], [{"device": "cuda"}])
    done = encode_tokens(block, NeverAsked(), 9, "float32", False, OF_ROWS, earlier)
    assert done.vectors.matrix[:, 0].tolist() == [1000, 1001, 1000]
    assert done.tokens_encoded == 0
    assert done.reused.to_dict() == {
        "version": "v0",
        "rows": 3,
        "tokens": 4,
        "added": 1,
        "changed": 1,
        "sources": {"a.jsonl": [3, 1, 1]},
        "numerics": [{"device": "cuda"}],
    }
    assert EmbeddingBlock.from_ipc(done.to_ipc()).reused == done.reused


def test_a_block_that_nothing_was_compared_with_says_so():
    done = encode_tokens(token_block([[1]]), SumClient(), 9, vectors=OF_ROWS)
    assert done.reused is None
    assert EmbeddingBlock.from_ipc(done.to_ipc()).reused is None
    empty = encode_tokens(token_block([]), NeverAsked(), 9, "float32", False, OF_ROWS, Earlier([]))
    assert (empty.reused.rows, empty.reused.sources) == (0, {})


class SpanClient:
    """A vector per span: its place, its end, and the sum of its row."""

    def __init__(self):
        self.rows = []

    def encode_all(self, batches):
        for batch in batches:
            rows = [batch.input_ids[a:b].tolist() for a, b in pairwise(batch.offsets)]
            self.rows += rows
            of_spans = np.repeat([sum(row) for row in rows], np.diff(batch.spans.offsets))
            places = [batch.spans.starts, batch.spans.ends, of_spans, of_spans * 0]
            yield np.stack(places, axis=1).astype(np.float32)


def test_words_of_a_row_are_taken_together():
    ids = [[1, 2], [3], [4, 5, 6], [7], [1, 2]]
    spans = [
        [
            {"char_start": n, "char_end": n + 1, "token_start": n, "token_end": n + 1}
            for n in range(len(row) if row != [7] else 0)
        ]
        for row in ids
    ]
    block = token_block(ids)
    block = block.with_rows(
        block.rows.append_column(SPANS_FIELD, pa.array(spans, SPANS_FIELD.type))
    )
    earlier, client = Earlier(["4 5 6", "1 2", "7"]), SpanClient()
    done = encode_tokens(block, client, 9, "float32", False, OF_TOKENS, earlier)
    assert client.rows == [[3]]
    assert earlier.counts.tolist() == [2, 1, 3, 0, 2]
    assert [done.vectors.of_row(n)[:, 0].tolist() for n in range(5)] == [
        [1001, 1001],
        [0],
        [1000, 1000, 1000],
        [],
        [1001, 1001],
    ]
    assert done.reused.rows == 4


def windowed(windows) -> TokenBlock:
    block = token_block(
        [ids if n == 0 else [] for ids, spans in windows for n in range(len(spans))]
    )
    rows = block.rows
    places = np.array([span for _, spans in windows for span in spans], np.int32)
    names = [f"{w}/{n}" for w, (_, spans) in enumerate(windows) for n in range(len(spans))]
    rows = rows.set_column(rows.schema.names.index("text"), "text", pa.array(names))
    sizes = pa.array((places[:, 1] - places[:, 0]).astype(np.int32))
    rows = rows.set_column(rows.schema.names.index("n_tokens"), "n_tokens", sizes)
    for field, column in zip(WINDOW_SPAN, places.T, strict=True):
        rows = rows.append_column(field, pa.array(np.ascontiguousarray(column), field.type))
    return block.with_rows(rows)


def test_a_window_is_read_for_chunks_that_are_new_and_others_keep_their_vectors():
    windows = [
        ([1, 2, 3], [(0, 1), (1, 3)]),
        ([4, 5], [(0, 2)]),
        ([6, 7, 8], [(0, 1), (1, 2), (2, 3)]),
    ]
    client = SpanClient()
    earlier = Earlier(["0/0", "0/1", "2/0", "2/2"])
    done = encode_tokens(windowed(windows), client, 99, "float32", False, OF_ROWS, earlier)
    assert sorted(client.rows) == [[4, 5], [6, 7, 8]]
    assert done.vectors.matrix[:, 0].tolist() == [1000, 1001, 0, 1002, 1, 1003]
    assert not set(WINDOW_SPAN.names) & set(done.rows.schema.names)
    # The third window was encoded again, so the tokens of its chunks were not saved.
    assert (done.tokens_encoded, done.reused.rows, done.reused.tokens) == (5, 4, 3)


def test_a_document_that_is_rejected_is_counted_nowhere():
    block = token_block([[666], [1], [2], [3]], ["bad", "bad", "good", "good"])
    earlier = Earlier(["1", "3"], ["bad:1", "good:2"], ["bad:1"])
    client = SumClient(poison=666)
    done = encode_tokens(block, client, 9, "float32", False, OF_ROWS, earlier)
    assert done.rows.column("doc_id").to_pylist() == ["good", "good"]
    assert [one.reason for one in done.rejects] == ["non_finite_vector"]
    assert done.vectors.matrix[1].tolist() == [1001] * 4
    counts = done.reused
    assert (counts.rows, counts.tokens, counts.added, counts.changed) == (1, 1, 1, 1)
    assert counts.sources == {"a.jsonl": (1, 1, 1)}


def test_sources_are_named_as_long_as_they_are_few():
    block = token_block([[n] for n in range(1, 10)])
    names = pa.array([f"{n}.txt" for n in range(9)])
    place = block.rows.schema.names.index("source")

    def counted(count):
        part = block.with_rows(block.rows.set_column(place, "source", names).slice(0, count))
        done = encode_tokens(part, SumClient(), 9, "float32", False, OF_ROWS, Earlier(["3"]))
        return done.reused

    assert counted(8).sources["2.txt"] == (1, 1, 0)
    assert counted(8).sources["7.txt"] == (0, 1, 0)
    assert (counted(9).sources, counted(9).rows, counted(9).added) == ({}, 1, 9)
