"""Encoding: from token ids to vectors, equal texts once."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.encoders.base import EncoderClient
from embedkit.encoders.spec import MixedCalls, VectorSpec
from embedkit.errors import InputError
from embedkit.flow.windows import is_windowed, window_batch
from embedkit.records import (
    SECOND_FIELD,
    SPANS_FIELD,
    TOKENS_FIELD,
    WINDOW_SPAN,
    Reject,
    TokenBlock,
)
from embedkit.vectors import (
    PART_SPANS_FIELD,
    EmbeddingBlock,
    TokenBatch,
    TokenSpans,
    Vectors,
    flat_list,
    places_of_rows,
    spans_of,
)

_MOST_CALL_ROWS = 4096
_MOST_CALL_BYTES = 64 << 20
"""Bytes of the vectors of spans that a call brings back; those of one row may be more."""


def call_batches(
    batch: TokenBatch,
    call_tokens: int,
    mixed: MixedCalls = False,
    only: NDArray[np.intp] | None = None,
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
        only: Numbers of the rows to take; all unless given.

    Yields:
        Row numbers and their tokens, so that every row is in exactly one call. The cut depends on
        the rows alone, so a repeated block is padded, and therefore encoded, as it was before.
    """
    taken = np.arange(len(batch)) if only is None else only
    for places in _calls(batch.lengths[taken], call_tokens, mixed):
        rows = taken[places]
        yield rows, batch.take(rows)


def _calls(
    lengths: NDArray[np.int32], call_tokens: int, mixed: MixedCalls
) -> Iterator[NDArray[np.intp]]:
    """Yields the rows of each call, see ``call_batches``."""
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
        yield from np.split(by_call, np.cumsum(np.bincount(dealt))[:-1])
        return
    start = 0
    while start < len(order):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + call_tokens, side="right")))
        stop = min(stop, start + _MOST_CALL_ROWS)
        yield order[start:stop]
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
    vectors: VectorSpec | None = None,
) -> EmbeddingBlock:
    """Encodes a block; equal texts are encoded once.

    Args:
        block: Rows with their token ids.
        client: Reaches the encoders.
        call_tokens: Most tokens that one call carries.
        vector_dtype: Stored type of the vectors, ``float32`` or ``float16``.
        mixed_calls: Whether a call has rows of all lengths, see ``ModelSpec.mixed_calls``.
        vectors: What the vectors are; one of each row unless given.

    Returns:
        The rows with their vectors, or scores of pairs. A document with a vector that is not
        finite is a reject ``non_finite_vector`` instead, with all of its chunks.

    Raises:
        EncoderError: No encoder answered.
        InputError: The user's own columns have the names of those that are added.
    """
    rows = block.rows
    if is_windowed(rows):
        found, tokens = _encode_windows(rows, client, call_tokens, mixed_calls, vectors)
        rows = rows.select([name for name in rows.schema.names if name not in WINDOW_SPAN.names])
    else:
        found, tokens = _encode_rows(rows, client, call_tokens, mixed_calls, vectors)
    with np.errstate(over="ignore"):
        # A component too large for float16 becomes infinite, and its document a reject.
        values = found.values.astype(vector_dtype, copy=False)
    found = Vectors(values, found.width, found.offsets)
    rejects = block.rejects
    finite = _finite_rows(found)
    if not finite.all():
        rows, found, spoiled = _without_spoiled_documents(rows, found, finite)
        rejects += tuple(map(block.numbered, spoiled))
    index = rows.schema.get_field_index("input_ids")
    name = "embedding" if vectors is None else vectors.column
    column = pa.array(found.values) if name == "score" else found.to_arrow()
    embedded = rows.set_column(index, pa.field(name, column.type, nullable=False), column)
    if found.offsets is not None:
        embedded = _with_spans_of_document(embedded)
    if SECOND_FIELD.name in embedded.schema.names:
        embedded = embedded.drop_columns([SECOND_FIELD.name])
    return block.into(EmbeddingBlock, embedded, rejects, tokens_encoded=tokens)


def _encode_rows(
    rows: pa.RecordBatch,
    client: EncoderClient,
    call_tokens: int,
    mixed_calls: MixedCalls,
    spec: VectorSpec | None,
) -> tuple[Vectors, int]:
    """Returns the vectors of rows, and the tokens that were sent to encoders for them."""
    codes = pc.dictionary_encode(rows.column("text_hash")).indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    batch = TokenBatch.from_arrow(rows.column("input_ids"))
    spans = None
    if spec is not None and spec.many:
        spans = _spans(rows)
        batch = replace(batch, spans=spans)
    if SECOND_FIELD.name in rows.schema.names:
        batch = replace(batch, seconds=rows.column(SECOND_FIELD.name).to_numpy())
    if spec is None or batch.spans is None:
        width = 1 if spec is None else spec.dimension
        found, tokens = _encode_batch(batch, first, client, call_tokens, mixed_calls, width)
        # In place: with a copy of all, a block would take twice its vectors.
        equals = first[inverse]
        repeats = np.flatnonzero(equals != np.arange(len(equals)))
        found[repeats] = found[equals[repeats]]
        return Vectors.from_matrix(found), tokens
    if len(first) < len(batch):
        batch = batch.take(first)
    assert batch.spans is not None, "of rows with spans"
    most = _most_tokens(batch, call_tokens, spec.dimension)
    # What the model would make of rows without spans, nobody asks for.
    asked = np.flatnonzero(np.diff(batch.spans.offsets))
    found, tokens = _encode_batch(batch, asked, client, most, mixed_calls, spec.dimension)
    vectors = Vectors(found.reshape(-1), spec.dimension, batch.spans.offsets)
    return vectors if len(first) == len(inverse) else vectors.take(inverse), tokens


def _encode_windows(
    rows: pa.RecordBatch,
    client: EncoderClient,
    call_tokens: int,
    mixed_calls: MixedCalls,
    spec: VectorSpec | None,
) -> tuple[Vectors, int]:
    """Returns the vectors of chunks that are read in windows, equal windows once."""
    batch, inverse = window_batch(rows)
    width = 1 if spec is None else spec.dimension
    all_rows = np.arange(len(batch))
    found, tokens = _encode_batch(batch, all_rows, client, call_tokens, mixed_calls, width)
    return Vectors.from_matrix(found[inverse]), tokens


def _encode_batch(
    batch: TokenBatch,
    only: NDArray[np.intp],
    client: EncoderClient,
    call_tokens: int,
    mixed_calls: MixedCalls,
    width: int,
) -> tuple[NDArray[np.float32], int]:
    """Returns a vector for each row, or each span, and the tokens that were sent.

    Only some rows are encoded, and the vectors of others are whatever was in memory.
    """
    if not len(only):
        return np.empty((0, width), dtype=np.float32), 0
    places: list[NDArray[np.integer]] = []

    def calls() -> Iterator[TokenBatch]:
        for rows, call in call_batches(batch, call_tokens, mixed_calls, only):
            of_spans = None if batch.spans is None else batch.spans.offsets
            places.append(rows if of_spans is None else places_of_rows(of_spans, rows)[0])
            yield call

    count = len(batch) if batch.spans is None else len(batch.spans)
    encoded: NDArray[np.float32] | None = None
    for number, vectors in enumerate(client.encode_all(calls())):
        if encoded is None:
            encoded = np.empty((count, vectors.shape[1]), dtype=np.float32)
        encoded[places[number]] = vectors
    assert encoded is not None, "rows make at least one call"
    return encoded, int(batch.lengths[only].sum(dtype=np.int64))


def _most_tokens(batch: TokenBatch, call_tokens: int, dimension: int) -> int:
    """Returns how many tokens a call may have for its spans' vectors to be few enough."""
    assert batch.spans is not None, "of rows with spans"
    spans = np.diff(batch.spans.offsets) / np.maximum(batch.lengths, 1)
    most_spans = max(1, _MOST_CALL_BYTES // (4 * dimension))
    return min(call_tokens, max(1, int(most_spans / max(spans.max(initial=0), 1e-9))))


def _spans(rows: pa.RecordBatch) -> TokenSpans:
    """Returns the spans of a TokenBlock's rows."""
    for name in (SPANS_FIELD.name, TOKENS_FIELD.name):
        if len(rows.schema.get_all_field_indices(name)) > 1:
            raise InputError(
                f"rows: {name} is a column of embedkit's own where words or tokens have vectors; "
                "rename it upstream or leave it out"
            )
    return spans_of(rows)


def _with_spans_of_document(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Returns rows whose spans are of their document's text, and say no more than characters."""
    column = rows.column(SPANS_FIELD.name)
    spans, offsets = flat_list(column)
    starts = rows.column("char_start").to_numpy()
    shift = np.repeat(starts, np.diff(offsets)).astype(np.int32)
    places = [spans.field(name).to_numpy() + shift for name in ("char_start", "char_end")]
    kind = PART_SPANS_FIELD.type
    moved = pa.StructArray.from_arrays(list(map(pa.array, places)), fields=list(kind.value_type))
    lists = pa.ListArray.from_arrays(pa.array(offsets), moved, type=kind)
    place = rows.schema.get_field_index(SPANS_FIELD.name)
    return rows.set_column(place, PART_SPANS_FIELD, lists)


def _finite_rows(vectors: Vectors) -> NDArray[np.bool_]:
    """Returns whether all vectors of each row are finite, shape (rows,)."""
    # One number per vector takes no memory, and a sum in float64 cannot overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        finite: NDArray[np.bool_] = np.isfinite(vectors.stacked.sum(axis=1, dtype=np.float32))
        doubtful = np.flatnonzero(~finite)
        finite[doubtful] = np.isfinite(vectors.stacked[doubtful].sum(axis=1, dtype=np.float64))
    if vectors.offsets is None:
        return finite
    spoiled = np.append(0, np.cumsum(~finite))
    of_rows: NDArray[np.bool_] = np.diff(spoiled[vectors.offsets]) == 0
    return of_rows


def _without_spoiled_documents(
    rows: pa.RecordBatch, vectors: Vectors, finite: NDArray[np.bool_]
) -> tuple[pa.RecordBatch, Vectors, tuple[Reject, ...]]:
    spoiled = pc.unique(rows.column("doc_id").filter(pa.array(~finite)))
    keep = pc.invert(pc.is_in(rows.column("doc_id"), value_set=spoiled))
    rejects = Reject.of_rows(
        rows.filter(pc.invert(keep)),
        "non_finite_vector",
        "the vector of this text is not finite, even computed alone in float32, or does not fit "
        f"into {vectors.values.dtype}; check the text, the model or --vector-dtype",
    )
    kept = np.flatnonzero(keep.to_numpy(zero_copy_only=False))
    return rows.filter(keep), vectors.take(kept), rejects
