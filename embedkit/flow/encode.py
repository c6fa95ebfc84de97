"""Encoding: from token ids to vectors, equal texts once."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.encoders.base import EncoderClient
from embedkit.records import Reject, TokenBlock
from embedkit.vectors import EmbeddingBlock, TokenBatch, Vectors

_MOST_CALL_ROWS = 4096


def call_batches(
    batch: TokenBatch, call_tokens: int, mixed: bool = False
) -> Iterator[tuple[NDArray[np.intp], TokenBatch]]:
    """Cuts rows into encoder calls: of similar lengths, longest first, or each of all lengths.

    A call has at most 4,096 rows: of very short rows it would bring back more bytes of vectors
    than are worth holding, in the encoder, on the way and here.

    Args:
        batch: Rows in any order.
        call_tokens: Most tokens of a call; a longer row is a call of its own.
        mixed: Whether every call is to have rows of all lengths, as encoders that pack rows want
            it. Calls with room for no more than a few rows are cut by length all the same.

    Yields:
        Row numbers and their tokens, so that every row is in exactly one call. The cut depends on
        the rows alone, so a repeated block is padded, and therefore encoded, as it was before.
    """
    lengths = batch.lengths
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    if mixed and len(order) and (longest := int(lengths[order[0]])) <= call_tokens // 2:
        # Dealt in turn, no call has more than its share and the longest row on top.
        by_tokens = -(-int(ends[-1]) // (call_tokens - longest))
        calls = max(1, by_tokens, -(-len(order) // _MOST_CALL_ROWS))
        for first in range(calls):
            yield order[first::calls], batch.take(order[first::calls])
        return
    start = 0
    while start < len(order):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + call_tokens, side="right")))
        stop = min(stop, start + _MOST_CALL_ROWS)
        rows = order[start:stop]
        yield rows, batch.take(rows)
        start = stop


def encode_tokens(
    block: TokenBlock,
    client: EncoderClient,
    call_tokens: int,
    vector_dtype: str = "float32",
    mixed_calls: bool = False,
) -> EmbeddingBlock:
    """Encodes a block; equal texts are encoded once.

    Args:
        block: Rows with their token ids.
        client: Reaches the encoders.
        call_tokens: Most tokens that one call carries.
        vector_dtype: Stored type of the vectors, ``float32`` or ``float16``.
        mixed_calls: Whether a call has rows of all lengths, see ``ModelSpec.mixed_calls``.

    Returns:
        The rows with their vectors. A document with a vector that is not finite is a reject
        ``non_finite_vector`` instead, with all of its chunks.

    Raises:
        EncoderError: No encoder answered.
    """
    rows = block.rows
    tokens = 0
    if rows.num_rows == 0:
        vectors = np.empty((0, 1), dtype=np.float32)
    else:
        vectors, tokens = _encode_rows(rows, client, call_tokens, mixed_calls)
    with np.errstate(over="ignore"):
        # A component too large for float16 becomes infinite, and its document a reject.
        vectors = vectors.astype(vector_dtype, copy=False)
    # A sum in float64 cannot overflow, and one number per row takes no memory.
    finite: NDArray[np.bool_] = np.isfinite(vectors.sum(axis=1, dtype=np.float64))
    rejects = block.rejects
    if not finite.all():
        rows, vectors, spoiled = _without_spoiled_documents(rows, vectors, finite)
        rejects += tuple(map(block.numbered, spoiled))
    index = rows.schema.get_field_index("input_ids")
    column = Vectors.from_matrix(vectors).to_arrow()
    field = pa.field("embedding", column.type, nullable=False)
    embedded = rows.set_column(index, field, column)
    return block.into(EmbeddingBlock, embedded, rejects, tokens_encoded=tokens)


def _encode_rows(
    rows: pa.RecordBatch, client: EncoderClient, call_tokens: int, mixed_calls: bool
) -> tuple[NDArray[np.float32], int]:
    """Returns the vectors of rows, and the tokens that were sent to encoders for them."""
    codes = pc.dictionary_encode(rows.column("text_hash")).indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    batch = TokenBatch.from_arrow(rows.column("input_ids"))
    if len(first) < len(batch):
        batch = batch.take(first)
    places: list[NDArray[np.intp]] = []

    def calls() -> Iterator[TokenBatch]:
        for place, call in call_batches(batch, call_tokens, mixed_calls):
            places.append(place)
            yield call

    encoded: NDArray[np.float32] | None = None
    for number, vectors in enumerate(client.encode_all(calls())):
        if encoded is None:
            encoded = np.empty((len(batch), vectors.shape[1]), dtype=np.float32)
        encoded[places[number]] = vectors
    assert encoded is not None, "a block with rows makes at least one call"
    if len(first) < len(inverse) or (first != inverse).any():
        encoded = encoded[inverse]
    return encoded, len(batch.input_ids)


def _without_spoiled_documents(
    rows: pa.RecordBatch, vectors: NDArray[np.float32], finite: NDArray[np.bool_]
) -> tuple[pa.RecordBatch, NDArray[np.float32], tuple[Reject, ...]]:
    spoiled = pc.unique(rows.column("doc_id").filter(pa.array(~finite)))
    keep = pc.invert(pc.is_in(rows.column("doc_id"), value_set=spoiled))
    rejects = Reject.of_rows(
        rows.filter(pc.invert(keep)),
        "non_finite_vector",
        "the vector of this text is not finite, even computed alone in float32, or does not fit "
        f"into {vectors.dtype}; check the text, the model or --vector-dtype",
    )
    return rows.filter(keep), vectors[keep.to_numpy(zero_copy_only=False)], rejects
