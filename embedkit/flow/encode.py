"""Encoding: from token ids to vectors, equal texts once."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.encoders.base import EncoderClient
from embedkit.encoders.spec import MixedCalls
from embedkit.records import Reject, TokenBlock
from embedkit.vectors import EmbeddingBlock, TokenBatch, Vectors

_MOST_CALL_ROWS = 4096


def call_batches(
    batch: TokenBatch, call_tokens: int, mixed: MixedCalls = False
) -> Iterator[tuple[NDArray[np.intp], TokenBatch]]:
    """Cuts rows into encoder calls: of similar lengths, longest first, or each of all lengths.

    A call has at most 4,096 rows: of very short rows it would bring back more bytes of vectors
    than are worth holding, in the encoder, on the way and here.

    Args:
        batch: Rows in any order.
        call_tokens: Most tokens of a call; a longer row is a call of its own.
        mixed: Whether every call is to have rows of all lengths, as encoders that pack rows want
            it: in calls of equal size, or in ``full`` ones and one with the rest. Calls with room
            for no more than a few rows are cut by length all the same.

    Yields:
        Row numbers and their tokens, so that every row is in exactly one call. The cut depends on
        the rows alone, so a repeated block is padded, and therefore encoded, as it was before.
    """
    lengths = batch.lengths
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    if mixed and len(order) and (longest := int(lengths[order[0]])) <= call_tokens // 2:
        dealt = _full_calls(lengths[order], call_tokens) if mixed == "full" else None
        if dealt is None:
            # Dealt in turn, no call has more than its share and the longest row on top.
            by_tokens = -(-int(ends[-1]) // (call_tokens - longest))
            calls = max(1, by_tokens, -(-len(order) // _MOST_CALL_ROWS))
            dealt = np.arange(len(order)) % calls
        by_call = order[np.argsort(dealt, kind="stable")]
        for rows in np.split(by_call, np.cumsum(np.bincount(dealt))[:-1]):
            yield rows, batch.take(rows)
        return
    start = 0
    while start < len(order):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + call_tokens, side="right")))
        stop = min(stop, start + _MOST_CALL_ROWS)
        rows = order[start:stop]
        yield rows, batch.take(rows)
        start = stop


def _full_calls(lengths: NDArray[np.int32], call_tokens: int) -> NDArray[np.int64] | None:
    """Deals rows to as many full calls as there can be, and to one with the rest.

    Args:
        lengths: Tokens per row, falling.
        call_tokens: Most tokens of a call.

    Returns:
        The call of each row, from 0; None where this way leads to none that are small enough.
    """
    longest, tokens = int(lengths[0]), int(lengths.sum(dtype=np.int64))
    places = np.arange(len(lengths))
    # A call comes out some tokens above or below its share, seldom by a whole row.
    for room in (call_tokens - longest * part // 32 for part in (0, 1, 4, 16, 32)):
        # Of 3.4 calls' worth of rows, each of three calls gets one in 3.4, and the last what is
        # left between them: dealt forth and back, as the first call of a round gets longer rows.
        worth, of = max((tokens, room), (len(lengths), _MOST_CALL_ROWS), key=lambda f: f[0] / f[1])
        rounds, turns = np.divmod(places * of, worth)
        dealt: NDArray[np.int64] = np.where(rounds % 2, worth - 1 - turns, turns) // of
        most_tokens = np.bincount(dealt, weights=lengths).max()
        if most_tokens <= call_tokens and np.bincount(dealt).max() <= _MOST_CALL_ROWS:
            return dealt
    return None


def encode_tokens(
    block: TokenBlock,
    client: EncoderClient,
    call_tokens: int,
    vector_dtype: str = "float32",
    mixed_calls: MixedCalls = False,
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
    rows: pa.RecordBatch, client: EncoderClient, call_tokens: int, mixed_calls: MixedCalls
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
