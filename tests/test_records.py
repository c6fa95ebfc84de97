"""Blocks, batches and the ids that contents give."""

import hashlib
import itertools
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedkit.config import RESERVED_COLUMNS
from embedkit.hashes.digests import digest, place_id, text_hash
from embedkit.records import DOCUMENT_SCHEMA, TOKEN_FIELDS, Block, DocumentBlock, Reject, TokenBlock
from embedkit.vectors import EmbeddingBlock, TokenBatch, Vectors

TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
ROWS = st.lists(st.lists(st.integers(0, 30_000), max_size=9), max_size=12)


def document_rows(texts: list[str]) -> pa.RecordBatch:
    count = len(texts)
    columns = {
        "id": [f"d{n}" for n in range(count)],
        "doc_id": [f"d{n}" for n in range(count)],
        "chunk_index": [0] * count,
        "char_start": [0] * count,
        "char_end": [len(text) for text in texts],
        "text_hash": [text_hash(text) for text in texts],
        "source": ["a.jsonl"] * count,
        "row_index": list(range(count)),
        "text": texts,
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[field.name], field.type) for field in DOCUMENT_SCHEMA],
        schema=DOCUMENT_SCHEMA,
    )


def one_block(kind: type[Block], rows: pa.RecordBatch, **changes: object) -> Block:
    settings = {
        "split_id": "00003",
        "seq": 7,
        "documents": rows.num_rows + 1,
        "last": True,
        "rejects": (Reject("a.jsonl", 99, "empty_text", "d: ü\n", None, '{"x"'),),
        "documents_before": 12,
    }
    return kind(rows=rows, **(settings | changes))


@given(st.lists(TEXTS, max_size=8), st.booleans(), st.integers(0, 5))
def test_ipc_gives_back_every_field_of_a_document_block(texts, last, before):
    block = one_block(DocumentBlock, document_rows(texts), last=last, documents_before=before)
    again = DocumentBlock.from_ipc(block.to_ipc())
    assert type(again) is DocumentBlock
    assert again == block
    assert again.rows.schema.equals(block.rows.schema, check_metadata=True)


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ipc_gives_back_vectors_bit_by_bit(rows, dtype):
    vectors = np.random.default_rng(0).standard_normal((rows, 5)).astype(dtype)
    column = Vectors.from_matrix(vectors).to_arrow()
    block = one_block(
        EmbeddingBlock,
        pa.RecordBatch.from_arrays(
            [column], schema=pa.schema([pa.field("embedding", column.type, nullable=False)])
        ),
        tokens_encoded=17,
    )
    again = EmbeddingBlock.from_ipc(block.to_ipc())
    assert again.tokens_encoded == 17
    assert again.vectors.matrix.dtype == np.dtype(dtype)
    assert again.vectors.matrix.shape == (rows, 5)
    assert again.vectors.matrix.tobytes() == vectors.tobytes()


def test_ipc_carries_tokens_and_user_columns_and_equal_blocks_have_equal_bytes():
    rows = document_rows(["a", "b"])
    arrays = [
        pa.array([[1, 2], []], TOKEN_FIELDS[0].type),
        pa.array([2, 0], pa.int32()),
        pa.array([False, True]),
        pa.array([None, 3], pa.int64()),
    ]
    fields = [*TOKEN_FIELDS, pa.field("stars", pa.int64())]
    rows = pa.RecordBatch.from_arrays(
        [*rows.columns, *arrays], schema=pa.schema([*DOCUMENT_SCHEMA, *fields])
    )
    block = one_block(TokenBlock, rows)
    assert TokenBlock.from_ipc(block.to_ipc()) == block
    assert TokenBlock.from_ipc(block.to_ipc()).to_ipc() == block.to_ipc()


def test_a_slice_of_rows_is_sent_without_the_rest():
    rows = document_rows(["x" * 10_000] * 50)
    part = one_block(DocumentBlock, rows.slice(10, 1))
    assert len(part.to_ipc()) < 20_000
    assert DocumentBlock.from_ipc(part.to_ipc()).rows.equals(rows.slice(10, 1))


def test_block_id_and_with_rows():
    block = one_block(DocumentBlock, document_rows(["a"]))
    assert block.block_id == "00003-00007"
    other = block.with_rows(document_rows(["b", "c"]))
    assert type(other) is DocumentBlock
    assert other.rows.num_rows == 2
    assert (other.documents, other.documents_before, other.rejects) == (2, 12, block.rejects)


@given(ROWS, st.data())
def test_take_gives_the_chosen_rows_in_the_chosen_order(rows, data):
    batch = TokenBatch.from_lists(rows)
    assert len(batch) == len(rows)
    assert batch.lengths.tolist() == [len(row) for row in rows]
    picks = st.lists(st.integers(0, len(rows) - 1), max_size=20) if rows else st.just([])
    chosen = data.draw(picks)
    taken = batch.take(np.array(chosen, dtype=np.intp))
    ends = taken.offsets.tolist()
    found = [taken.input_ids[a:b].tolist() for a, b in itertools.pairwise(ends)]
    assert found == [rows[place] for place in chosen]
    assert taken.input_ids.dtype == taken.offsets.dtype == np.int32


def test_token_batches_and_blocks_can_be_pickled():
    batch = TokenBatch.from_lists([[1, 2], [3]])
    again = pickle.loads(pickle.dumps(batch))
    assert again.input_ids.tolist() == [1, 2, 3]
    block = one_block(DocumentBlock, document_rows(["a"]))
    assert pickle.loads(pickle.dumps(block)) == block


@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(TEXTS, min_size=1, max_size=4))
def test_digest_tells_where_each_part_ends(left, right):
    assert (digest(*left) == digest(*right)) == (left == right)


def test_digest_knows_where_strings_meet_and_takes_lone_surrogates():
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert len(digest("\ud800")) == 32


def test_ids_stand_still():
    """These values are in datasets already written: a change makes every id another one."""
    expected = hashlib.blake2b(b"\x09\0\0\0\0\0\0\0a/b.jsonl\x02\0\0\0\0\0\0\x0017", digest_size=16)
    assert place_id("a/b.jsonl", 17) == expected.hexdigest()
    assert text_hash("ü") == hashlib.blake2b("ü".encode(), digest_size=16).hexdigest()


def test_reserved_columns_are_all_that_a_row_ever_has():
    added = {"input_ids", "n_tokens", "truncated", "line_in_range", "embedding"}
    assert {*DOCUMENT_SCHEMA.names, *added} == RESERVED_COLUMNS


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 6))))
def test_vectors_have_their_shape_even_without_rows(vectors):
    column = Vectors.from_matrix(vectors).to_arrow()
    rows = pa.RecordBatch.from_arrays([column], names=["embedding"])
    assert one_block(EmbeddingBlock, rows).vectors.matrix.shape == vectors.shape
