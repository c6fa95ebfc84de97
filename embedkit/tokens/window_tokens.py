"""Tokenizes the windows that chunks are read in, and finds the tokens of each chunk in its own."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.records import TOKEN_FIELDS, WINDOW, WINDOW_SPAN, WINDOW_START
from embedkit.tokens.spans import PlacedSpans
from embedkit.tokens.text_tokenizer import TextTokenizer


def window_tokens(
    rows: pa.RecordBatch, tokenizer: TextTokenizer
) -> tuple[pa.RecordBatch, NDArray[np.bool_]]:
    """Tokenizes the windows of chunks.

    Args:
        rows: Chunks with ``WINDOW`` and ``WINDOW_START``.
        tokenizer: The model's tokenizer.

    Returns:
        The chunks with tokens that say anything, with ``TOKEN_FIELDS`` and ``WINDOW_SPAN`` in the
        place of their windows: the first chunk of a window has the window's tokens, the others
        none, and ``n_tokens`` are the chunk's own. And whether each of all rows is among them,
        shape (rows,).
    """
    windows = rows.column(WINDOW.name)
    begins = windows.is_valid().to_numpy(zero_copy_only=False)
    of_rows = np.cumsum(begins) - 1
    texts = windows.drop_null().to_pylist()
    ids, offsets, counts, tokens = tokenizer.encode_with_tokens(texts)
    places = [rows.column(name).to_numpy() for name in ("char_start", "char_end")]
    chars = np.stack(places, axis=1) - rows.column(WINDOW_START.name).to_numpy()[:, np.newaxis]
    spans, cut = _tokens_of(chars, of_rows, tokens)
    said = (spans[:, 0] < spans[:, 1]) & ~_silent(rows, tokenizer, spans, of_rows, ids, offsets)
    cut &= (counts > tokenizer.max_tokens)[of_rows]
    first = np.diff(of_rows[said], prepend=-1) > 0
    sizes = np.where(first, np.diff(offsets)[of_rows[said]], 0)
    read = np.isin(np.arange(len(texts)), of_rows[said])
    columns = [
        pa.ListArray.from_arrays(
            pa.array(np.append(0, np.cumsum(sizes)).astype(np.int32)),
            pa.array(ids[np.repeat(read, np.diff(offsets))]),
            type=TOKEN_FIELDS[0].type,
        ),
        pa.array((spans[said, 1] - spans[said, 0]).astype(np.int32)),
        pa.array(cut[said]),
        *(pa.array(np.ascontiguousarray(one).astype(np.int32)) for one in spans[said].T),
    ]
    names = [name for name in rows.schema.names if name not in (WINDOW.name, WINDOW_START.name)]
    kept = rows.select(names).filter(pa.array(said))
    schema = pa.schema([*kept.schema, *TOKEN_FIELDS, *WINDOW_SPAN], kept.schema.metadata)
    return pa.RecordBatch.from_arrays([*kept.columns, *columns], schema=schema), said


def _tokens_of(
    chars: NDArray[np.int64], of_rows: NDArray[np.int64], tokens: PlacedSpans
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Finds the tokens that stand for characters of chunks.

    Args:
        chars: First character of each chunk in its window and the one behind its last, shape
            (rows, 2).
        of_rows: The window of each chunk.
        tokens: The tokens of all windows, each as a span.

    Returns:
        Their places in the windows, shape (rows, 2), equal for a chunk without any; and whether a
        chunk has characters before the first token of its window or behind the last, shape (rows,).
    """
    size = int(max(chars.max(initial=0), tokens.char_ends.max(initial=0))) + 1
    shift = tokens.rows * size
    seen = np.flatnonzero(tokens.char_ends > tokens.char_starts)
    starts, ends = (one[seen] + shift[seen] for one in (tokens.char_starts, tokens.char_ends))
    wanted = chars + (of_rows * size)[:, np.newaxis]
    first = np.searchsorted(ends, wanted[:, 0], side="right")
    last = np.searchsorted(starts, wanted[:, 1], side="left")
    spans = np.zeros((len(chars), 2), dtype=np.int64)
    some = np.flatnonzero(first < last)
    spans[some, 0] = tokens.token_starts[seen[first[some]]]
    spans[some, 1] = tokens.token_ends[seen[last[some] - 1]]
    window = np.append(starts, 0)[np.minimum(np.searchsorted(starts, of_rows * size), len(starts))]
    final = np.append(0, ends)[np.searchsorted(starts, (of_rows + 1) * size)]
    return spans, (wanted[:, 0] < window) | (wanted[:, 1] > final)


def _silent(
    rows: pa.RecordBatch,
    tokenizer: TextTokenizer,
    spans: NDArray[np.int64],
    of_rows: NDArray[np.int64],
    ids: NDArray[np.int32],
    offsets: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Finds the chunks that say nothing to the model."""
    sizes = spans[:, 1] - spans[:, 0]
    ends = np.append(0, np.cumsum(sizes))
    first = offsets[of_rows].astype(np.int64) + spans[:, 0]
    of_chunks = ids[np.repeat(first - ends[:-1], sizes) + np.arange(ends[-1])]
    texts = rows.column("text").to_pylist()
    return tokenizer.silent_contents(texts, of_chunks, ends.astype(np.int32))
