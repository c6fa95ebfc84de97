"""Documents to rows of their chunks, whatever cuts them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.hashes.digests import digest, text_hash
from embedkit.records import WINDOW, WINDOW_START

Spans = list[tuple[int, int]]

_OF_A_CHUNK = frozenset({"id", "chunk_index", "char_start", "char_end", "text_hash", "text"})


class Chunker(Protocol):
    """Cuts texts into chunks."""

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the chunks of each text as (char_start, char_end), at least one for each."""
        ...


@runtime_checkable
class WindowChunker(Chunker, Protocol):
    """Cuts texts into chunks, each of which is read in a window of its text."""

    def windows(self, texts: list[str], spans: list[Spans]) -> list[Spans]:
        """Returns the window of each chunk, equal for neighbours that are read in one.

        Args:
            texts: Any texts.
            spans: Their chunks, as ``spans`` returned them.
        """
        ...


def windows_of(chunker: Chunker, texts: list[str], spans: list[Spans]) -> list[Spans] | None:
    """Returns the windows of chunks, or None where each is read by itself."""
    return chunker.windows(texts, spans) if isinstance(chunker, WindowChunker) else None


def chunk_documents(rows: pa.RecordBatch, chunker: Chunker) -> pa.RecordBatch:
    """Replaces each document by its chunks.

    Args:
        rows: Whole documents, of ``DOCUMENT_SCHEMA`` and any columns behind it.
        chunker: Cuts them.

    Returns:
        Rows of the same schema: the id is ``<doc_id>:<chunk_index>``; text, hash and characters
        are the chunk's; all else is the document's. Where chunks are read in windows, ``WINDOW``
        and ``WINDOW_START`` stand behind these columns, and the hash is of window and chunk.
    """
    texts = rows.column("text").to_pylist()
    spans = chunker.spans(texts)
    return chunk_rows(rows, texts, spans, windows=windows_of(chunker, texts, spans))


def chunk_rows(
    rows: pa.RecordBatch,
    texts: Sequence[str],
    spans: Sequence[Spans],
    first: int = 0,
    windows: Sequence[Spans] | None = None,
) -> pa.RecordBatch:
    """Makes the rows of chunks.

    Args:
        rows: Whole documents, of ``DOCUMENT_SCHEMA`` and any columns behind it.
        texts: Their texts.
        spans: Chunks of each of them.
        first: Number of each document's first chunk here.
        windows: The window of each chunk, where they are read in windows.

    Returns:
        The rows that ``chunk_documents`` describes.
    """
    counts = np.fromiter(map(len, spans), dtype=np.int64, count=len(spans))
    origin = np.repeat(np.arange(len(spans)), counts)
    index = np.arange(len(origin)) - np.repeat(np.cumsum(counts) - counts, counts) + first
    places = np.array([span for of_text in spans for span in of_text], dtype=np.int32)
    chunks = [text[a:b] for text, of_text in zip(texts, spans, strict=True) for a, b in of_text]
    # Without their texts, of which there would be a copy for every chunk.
    kept = [name for name in rows.schema.names if name not in _OF_A_CHUNK]
    repeated = rows.select(kept).take(pa.array(origin))
    index_array = pa.array(index.astype(np.int32))
    numbers = index_array.cast(pa.string())
    changed = {
        "id": pc.binary_join_element_wise(repeated.column("doc_id"), numbers, ":"),
        "chunk_index": index_array,
        "char_start": pa.array(places.reshape(-1, 2)[:, 0]),
        "char_end": pa.array(places.reshape(-1, 2)[:, 1]),
        "text_hash": pa.array([text_hash(chunk) for chunk in chunks], pa.string()),
        "text": pa.array(chunks, pa.string()),
    }
    if windows is not None:
        changed["text_hash"] = _hashes_in_windows(texts, spans, windows)
    arrays = [
        changed[name] if name in changed else repeated.column(name) for name in rows.schema.names
    ]
    chunked = pa.RecordBatch.from_arrays(arrays, schema=rows.schema)
    return chunked if windows is None else _with_windows(chunked, texts, windows)


def _hashes_in_windows(
    texts: Sequence[str], spans: Sequence[Spans], windows: Sequence[Spans]
) -> pa.Array:
    """Hashes what the vector of each chunk depends on: its window, and where it stands in that."""
    hashes = []
    for text, of_text, around in zip(texts, spans, windows, strict=True):
        hashed = {window: text_hash(text[slice(*window)]) for window in set(around)}
        for (start, end), window in zip(of_text, around, strict=True):
            hashes.append(digest(hashed[window], str(start - window[0]), str(end - window[0])))
    return pa.array(hashes, pa.string())


def _with_windows(
    rows: pa.RecordBatch, texts: Sequence[str], windows: Sequence[Spans]
) -> pa.RecordBatch:
    shown: list[str | None] = []
    starts = []
    for text, around in zip(texts, windows, strict=True):
        before = None
        for window in around:
            shown.append(None if window == before else text[slice(*window)])
            starts.append(window[0])
            before = window
    return rows.append_column(WINDOW, pa.array(shown, WINDOW.type)).append_column(
        WINDOW_START, pa.array(starts, WINDOW_START.type)
    )
