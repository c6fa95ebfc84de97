"""Chunks that are read in windows: a vector for each, and equal windows are encoded once."""

import numpy as np
import pyarrow as pa
from blocks import token_block
from hypothesis import given
from hypothesis import strategies as st

from embedkit.flow.encode import encode_tokens
from embedkit.flow.windows import window_batch
from embedkit.records import WINDOW_SPAN, TokenBlock


class SumClient:
    """A vector per span: its place, and the sums of its ids and of the whole row."""

    def __init__(self):
        self.tokens = 0

    def encode_all(self, batches):
        for batch in batches:
            self.tokens += len(batch.input_ids)
            vectors = np.empty((len(batch.spans), 3), np.float32)
            for row in range(len(batch)):
                ids = batch.input_ids[batch.offsets[row] : batch.offsets[row + 1]]
                for n in range(batch.spans.offsets[row], batch.spans.offsets[row + 1]):
                    start, end = batch.spans.starts[n], batch.spans.ends[n]
                    vectors[n] = start, ids[start:end].sum(), ids.sum()
            yield vectors


WINDOWS = st.lists(
    st.lists(st.integers(1, 3), min_size=1, max_size=8).flatmap(
        lambda ids: st.tuples(
            st.just(ids),
            st.lists(
                st.integers(0, len(ids) - 1).flatmap(
                    lambda at: st.tuples(st.just(at), st.integers(at + 1, len(ids)))
                ),
                min_size=1,
                max_size=4,
            ),
        )
    ),
    max_size=12,
)


def windowed_block(windows) -> TokenBlock:
    ids = [of if n == 0 else [] for of, spans in windows for n in range(len(spans))]
    block = token_block(ids)
    places = np.array([span for _, spans in windows for span in spans], np.int32).reshape(-1, 2)
    rows = block.rows
    for field, column in zip(WINDOW_SPAN, places.T, strict=True):
        rows = rows.append_column(field, pa.array(np.ascontiguousarray(column), field.type))
    return block.with_rows(rows)


@given(WINDOWS, st.integers(1, 12), st.sampled_from([False, True, "full"]))
def test_each_chunk_has_the_vector_of_its_span(windows, call_tokens, mixed):
    client = SumClient()
    embedded = encode_tokens(windowed_block(windows), client, call_tokens, mixed_calls=mixed)
    expected = [
        [start, sum(ids[start:end]), sum(ids)] for ids, spans in windows for start, end in spans
    ]
    assert embedded.vectors.matrix.tolist() == expected
    assert not {*WINDOW_SPAN.names, "input_ids"}.intersection(embedded.rows.schema.names)
    distinct = {(tuple(ids), tuple(spans)) for ids, spans in windows}
    assert client.tokens == embedded.tokens_encoded == sum(len(ids) for ids, _ in distinct)


def test_windows_of_equal_tokens_and_other_chunks_are_two():
    batch, places = window_batch(windowed_block([([1, 2], [(0, 1)]), ([1, 2], [(1, 2)])]).rows)
    assert len(batch) == 2
    assert places.tolist() == [0, 1]
