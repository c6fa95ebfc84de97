"""Encoding: from token ids to vectors, equal texts once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.encoders.base import EncoderClient
from embedkit.encoders.spec import MixedCalls, VectorSpec
from embedkit.errors import InputError
from embedkit.flow.calls import call_batches
from embedkit.flow.codes import codes_of, floats_of, how_stored
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.take_over import reused_of, take_or_encode
from embedkit.flow.windows import is_windowed, window_batch
from embedkit.quantization import QUANTIZED, Calibration, StoredAs
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

_MOST_CALL_BYTES = 64 << 20
"""Bytes of the vectors of spans that a call brings back; those of one row may be more."""


def encode_tokens(
    block: TokenBlock,
    client: EncoderClient,
    call_tokens: int,
    vector_dtype: str = "float32",
    mixed_calls: MixedCalls = False,
    vectors: VectorSpec | None = None,
    earlier: EarlierRows | None = None,
    calibration: Callable[[], Calibration] | None = None,
) -> EmbeddingBlock:
    """Encodes a block; equal texts are encoded once, those of an earlier version not at all.

    Args:
        block: Rows with their token ids.
        client: Reaches the encoders.
        call_tokens: Most tokens that one call carries.
        vector_dtype: Stored type of the vectors: ``float32``, ``float16``, ``int8``, ``uint8`` or
            ``binary``.
        mixed_calls: Whether a call has rows of all lengths, see ``ModelSpec.mixed_calls``.
        vectors: What the vectors are; one of each row unless given.
        earlier: Has vectors of texts that did not change; needs ``vectors``.
        calibration: Returns what codes of 8 bits are made by.

    Returns:
        The rows with their vectors or the codes of these, or scores of pairs. A document with a
        vector that is not finite is a reject ``non_finite_vector`` instead, with all of its chunks.

    Raises:
        EncoderError: No encoder answered.
        ConfigError: There are no ranges to make codes by.
        InputError: The user's own columns have the names of those that are added.
        IntegrityError: A part of the earlier version is damaged or gone.
        StoreError: The store failed.
    """
    rows = block.rows
    encode = partial(
        _encode,
        client=client,
        call_tokens=call_tokens,
        vector_dtype="float32" if vector_dtype in QUANTIZED else vector_dtype,
        mixed_calls=mixed_calls,
        spec=vectors,
    )
    taken = None
    if earlier is not None and vectors is not None:
        counts = np.diff(_spans(rows).offsets) if vectors.many else None
        how = how_stored(vector_dtype, vectors.dimension, calibration)
        taken = earlier.take(rows, vectors, how, counts)
        found, tokens = take_or_encode(rows, floats_of(taken, how), encode)
    else:
        found, tokens = encode(rows)
        how = how_stored(vector_dtype, found.width, calibration)
    rejects, kept = block.rejects, None
    finite = found.finite
    if not finite.all():
        kept, spoiled = _spoiled_documents(rows, finite, found.values.dtype)
        rejects += tuple(map(block.numbered, spoiled))
        found = found.take(np.flatnonzero(kept))
    reused = loss = None
    if taken is not None and earlier is not None:
        reused = reused_of(earlier.version.name, rows, taken, kept)
    if how.is_quantized:
        found, loss = codes_of(found, how, taken, kept)
    return block.into(
        EmbeddingBlock,
        _embedded(rows if kept is None else rows.filter(pa.array(kept)), found, vectors, how),
        rejects,
        tokens_encoded=tokens,
        reused=reused,
        loss=loss,
    )


def _embedded(
    rows: pa.RecordBatch, found: Vectors, spec: VectorSpec | None, how: StoredAs
) -> pa.RecordBatch:
    """Returns rows of a TokenBlock as those of an EmbeddingBlock."""
    index = rows.schema.get_field_index("input_ids")
    name = "embedding" if spec is None else spec.column
    column = pa.array(found.values) if name == "score" else found.to_arrow()
    field = pa.field(name, column.type, nullable=False, metadata=how.to_metadata() or None)
    embedded = rows.set_column(index, field, column)
    if found.offsets is not None:
        embedded = _with_spans_of_document(embedded)
    dropped = (SECOND_FIELD.name, *WINDOW_SPAN.names)
    return embedded.select([one for one in embedded.schema.names if one not in dropped])


def _encode(
    rows: pa.RecordBatch,
    client: EncoderClient,
    call_tokens: int,
    vector_dtype: str,
    mixed_calls: MixedCalls,
    spec: VectorSpec | None,
) -> tuple[Vectors, int]:
    """Returns the vectors of rows as they are stored, and the tokens that were sent to encoders."""
    encode = _encode_windows if is_windowed(rows) else _encode_rows
    found, tokens = encode(rows, client, call_tokens, mixed_calls, spec)
    with np.errstate(over="ignore"):
        # A component too large for float16 becomes infinite, and its document a reject.
        values = found.values.astype(vector_dtype, copy=False)
    return Vectors(values, found.width, found.offsets), tokens


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


def _spoiled_documents(
    rows: pa.RecordBatch, finite: NDArray[np.bool_], dtype: np.dtype[Any]
) -> tuple[NDArray[np.bool_], tuple[Reject, ...]]:
    """Returns which rows are of documents whose vectors are all finite, and rejects of others."""
    spoiled = pc.unique(rows.column("doc_id").filter(pa.array(~finite)))
    lost = pc.is_in(rows.column("doc_id"), value_set=spoiled)
    rejects = Reject.of_rows(
        rows.filter(lost),
        "non_finite_vector",
        "the vector of this text is not finite, even computed alone in float32, or does not fit "
        f"into {dtype}; check the text, the model or --vector-dtype",
    )
    return ~lost.to_numpy(zero_copy_only=False), rejects
