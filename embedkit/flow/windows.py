"""Chunks that are read in windows: the rows of a TokenBlock to the batch of their windows."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.records import WINDOW_SPAN
from embedkit.vectors import TokenBatch, TokenSpans


def is_windowed(rows: pa.RecordBatch) -> bool:
    """Tells whether the rows of a TokenBlock are chunks that are read in windows."""
    return all(name in rows.schema.names for name in WINDOW_SPAN.names)


def window_batch(rows: pa.RecordBatch) -> tuple[TokenBatch, NDArray[np.intp]]:
    """Gathers windows, each with the spans of its chunks; equal ones once.

    Args:
        rows: Rows with ``WINDOW_SPAN``. Those of a window follow each other, and the first of
            them has its tokens.

    Returns:
        The windows, and for each row the number of its span among theirs, shape (rows,).
    """
    batch = TokenBatch.from_arrow(rows.column("input_ids"))
    firsts = np.flatnonzero(batch.lengths)
    starts, ends = (rows.column(name).to_numpy() for name in WINDOW_SPAN.names)
    spans = TokenSpans(starts, ends, np.append(firsts, rows.num_rows).astype(np.int32))
    known: dict[bytes, int] = {}
    kept: list[int] = []
    places = np.empty(rows.num_rows, dtype=np.intp)
    done = 0
    for window, (first, end) in enumerate(zip(firsts, spans.offsets[1:], strict=True)):
        ids = batch.input_ids[batch.offsets[first] : batch.offsets[first + 1]]
        inside = spans.starts[first:end], spans.ends[first:end]
        key = b"".join(one.tobytes() for one in (ids, *inside))
        if key not in known:
            known[key] = done
            kept.append(window)
            done += int(end) - int(first)
        places[first:end] = known[key] + np.arange(int(end) - int(first))
    windows = batch.take(firsts)
    windows = TokenBatch(windows.input_ids, windows.offsets, spans)
    return windows.take(np.array(kept, dtype=np.intp)), places
