"""Rows with spans through the encoding: a list of vectors each, of the document's characters."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from blocks import token_block
from hypothesis import given
from hypothesis import strategies as st

from embedkit.dataset.parquet import part_table
from embedkit.dataset.schema import PartOptions
from embedkit.encoders.spec import VectorSpec
from embedkit.errors import InputError
from embedkit.flow import encode
from embedkit.flow.encode import encode_tokens
from embedkit.records import SPANS_FIELD, TOKENS_FIELD
from embedkit.vectors import Vectors, value_column

OF_TOKENS = VectorSpec(3, normalize=False, metric="cosine", of="token")
SPANS = st.lists(
    st.lists(st.tuples(st.integers(1, 99), st.booleans()), min_size=1, max_size=6), max_size=30
)
"""Rows of tokens, each with whether it has a span."""


class SpanClient:
    """A vector per span: the first id, the last one, and the sum of the whole row."""

    def __init__(self, poison=None):
        self.calls = []
        self._poison = poison

    def encode_all(self, batches):
        for batch in batches:
            self.calls.append(batch)
            vectors = np.empty((len(batch.spans), 3), np.float32)
            for row, (a, b) in enumerate(itertools.pairwise(batch.spans.offsets)):
                ids = batch.input_ids[batch.offsets[row] : batch.offsets[row + 1]]
                for n in range(a, b):
                    first, last = ids[batch.spans.starts[n]], ids[batch.spans.ends[n] - 1]
                    vectors[n] = first, last, ids.sum()
                    vectors[n, 0] = np.nan if first == self._poison else first
            yield vectors


def span(start, end):
    return {"char_start": 10 * start, "char_end": 10 * end, "token_start": start, "token_end": end}


def with_spans(block, spans, tokens=False):
    rows = block.rows.append_column(SPANS_FIELD, pa.array(spans, SPANS_FIELD.type))
    if tokens:
        words = [[str(one["token_start"]) for one in row] for row in spans]
        rows = rows.append_column(TOKENS_FIELD, pa.array(words, TOKENS_FIELD.type))
    return block.with_rows(rows)


def marked_block(rows, **changes):
    ids = [[one for one, _ in row] for row in rows]
    spans = [[span(n, n + 1) for n, (_, kept) in enumerate(row) if kept] for row in rows]
    return with_spans(token_block(ids, **changes), spans)


def expected(rows):
    sums = [sum(one for one, _ in row) for row in rows]
    return [
        [[one, one, total] for one, kept in row if kept]
        for row, total in zip(rows, sums, strict=True)
    ]


@given(SPANS, st.integers(1, 12), st.sampled_from([False, True, "full"]))
def test_each_span_has_its_own_vector_and_equal_texts_are_encoded_once(rows, call_tokens, mixed):
    client = SpanClient()
    # Rows that have equal ids have equal texts; their spans are those of the first of them.
    first = {}
    kept = [first.setdefault(tuple(one for one, _ in row), row) for row in rows]
    block = marked_block(kept)
    embedded = encode_tokens(block, client, call_tokens, mixed_calls=mixed, vectors=OF_TOKENS)
    assert value_column(embedded.rows.schema) == "embeddings"
    assert embedded.rows.column("embeddings").to_pylist() == expected(kept)
    wanted = {ids for ids, row in first.items() if any(asked for _, asked in row)}
    assert embedded.tokens_encoded == sum(map(len, wanted))
    assert all(np.diff(call.spans.offsets).all() for call in client.calls)


def test_spans_are_of_the_document_where_rows_are_chunks():
    block = marked_block([[(5, True), (6, False), (7, True)], [(8, True)], [(9, False)]])
    place = block.rows.schema.get_field_index("char_start")
    starts = pa.array([0, 100, 250], pa.int32())
    rows = block.rows.set_column(place, block.rows.schema.field(place), starts)
    embedded = encode_tokens(block.with_rows(rows), SpanClient(), 99, vectors=OF_TOKENS)
    assert embedded.rows.column("spans").to_pylist() == [
        [{"char_start": 0, "char_end": 10}, {"char_start": 20, "char_end": 30}],
        [{"char_start": 100, "char_end": 110}],
        [],
    ]
    options = PartOptions(3, column="embeddings")
    table = part_table(embedded, options)
    assert table.schema.names[:4] == ["id", "embeddings", "spans", "doc_id"]
    assert table["spans"].to_pylist() == embedded.rows.column("spans").to_pylist()


def test_stored_tokens_follow_the_spans():
    rows = [[span(0, 2), span(2, 3)], []]
    block = with_spans(token_block([[4, 5, 6], [7]]), rows, tokens=True)
    embedded = encode_tokens(block, SpanClient(), 99, vectors=OF_TOKENS)
    assert embedded.rows.column("embeddings").to_pylist() == [[[4, 5, 15], [6, 6, 15]], []]
    table = part_table(embedded, PartOptions(3, column="embeddings"))
    assert table.schema.names[:5] == ["id", "embeddings", "spans", "tokens", "doc_id"]
    assert table["tokens"].to_pylist() == [["0", "2"], []]


def test_no_call_brings_back_more_than_so_many_bytes_of_vectors(monkeypatch):
    monkeypatch.setattr(encode, "_MOST_CALL_BYTES", 10 * 12)
    rows = [[(n, True)] * (1 + n % 4) for n in range(1, 41)]
    client = SpanClient()
    embedded = encode_tokens(marked_block(rows), client, 1_000, vectors=OF_TOKENS)
    assert embedded.rows.column("embeddings").to_pylist() == expected(rows)
    assert max(len(call.spans) for call in client.calls) <= 10
    assert len(client.calls) >= 10
    # Rows with few spans may fill their calls.
    sparse = [[(n, place == 0) for place in range(5)] for n in range(1, 41)]
    client = SpanClient()
    encode_tokens(marked_block(sparse), client, 1_000, vectors=OF_TOKENS)
    assert [len(call.spans) for call in client.calls] == [10, 10, 10, 10]


def test_a_document_with_a_vector_that_is_not_finite_is_a_reject_with_all_of_its_chunks():
    rows = [[(1, True)], [(2, False), (13, True)], [(3, False)], [(4, True), (5, True)]]
    block = marked_block(rows, doc_ids=["a", "b", "b", "c"], documents=3)
    embedded = encode_tokens(block, SpanClient(poison=13), 99, vectors=OF_TOKENS)
    assert embedded.rows.column("doc_id").to_pylist() == ["a", "c"]
    assert embedded.rows.column("embeddings").to_pylist() == [[[1, 1, 1]], [[4, 4, 9], [5, 5, 9]]]
    assert embedded.rows.column("spans").to_pylist()[1][1] == {"char_start": 10, "char_end": 20}
    (reject,) = embedded.rejects
    assert (reject.doc_id, reject.reason) == ("b", "non_finite_vector")


def test_large_components_are_finite_though_their_sum_is_not():
    values = np.array([[3e38, 3e38, 0], [1, 2, 3], [np.inf, -np.inf, 0]], dtype=np.float32)
    assert Vectors.from_matrix(values).finite.tolist() == [True, True, False]
    of_two = Vectors(values.reshape(-1), 3, np.array([0, 2, 3], dtype=np.int32))
    assert of_two.finite.tolist() == [True, False]


def test_half_precision_keeps_lists_and_rejects_what_does_not_fit():
    rows = [[(1, True), (2, True)], [(70_000, True)], [(3, False)]]
    embedded = encode_tokens(marked_block(rows), SpanClient(), 99, "float16", vectors=OF_TOKENS)
    vectors = Vectors.from_arrow(embedded.rows.column("embeddings"))
    assert (vectors.values.dtype, vectors.counts.tolist()) == ("float16", [2, 0])
    assert "float16" in embedded.rejects[0].detail


@pytest.mark.parametrize("ids", [[], [[1, 2], [3]]])
def test_rows_without_any_span_have_empty_lists_of_the_right_width(ids):
    block = with_spans(token_block(ids), [[]] * len(ids))
    client = SpanClient()
    embedded = encode_tokens(block, client, 99, vectors=OF_TOKENS)
    assert embedded.rows.column("embeddings").to_pylist() == [[]] * len(ids)
    assert embedded.vectors.width == 3
    assert (client.calls, embedded.tokens_encoded) == ([], 0)


@pytest.mark.parametrize("name", ["spans", "tokens"])
def test_a_column_of_the_user_s_with_a_name_of_ours_is_refused(name):
    block = token_block([[1, 2]])
    rows = block.rows.append_column(name, pa.array(["mine"]))
    plain = encode_tokens(block.with_rows(rows), _Plain(), 99)
    assert plain.rows.column(name).to_pylist() == ["mine"]
    table = part_table(plain, PartOptions(3))
    assert (table.schema.names[-1], table[name].to_pylist()) == (name, ["mine"])
    marked = with_spans(block.with_rows(rows), [[span(0, 1)]], tokens=True)
    with pytest.raises(InputError, match=f"^rows: {name} is a column of embedkit's own"):
        encode_tokens(marked, SpanClient(), 99, vectors=OF_TOKENS)


class _Plain:
    def encode_all(self, batches):
        for batch in batches:
            yield np.ones((len(batch), 3), np.float32)
