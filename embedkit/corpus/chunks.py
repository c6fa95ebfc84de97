"""Documents to rows of their chunks, whatever cuts them."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.hashes.digests import text_hash

Spans = list[tuple[int, int]]

_OF_A_CHUNK = frozenset({"id", "chunk_index", "char_start", "char_end", "text_hash", "text"})


class Chunker(Protocol):
    """Cuts texts into chunks."""

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the chunks of each text as (char_start, char_end), at least one for each."""
        ...


def chunk_documents(rows: pa.RecordBatch, chunker: Chunker) -> pa.RecordBatch:
    """Replaces each document by its chunks.

    Args:
        rows: Whole documents, of ``DOCUMENT_SCHEMA`` and any columns behind it.
        chunker: Cuts them.

    Returns:
        Rows of the same schema: the id is ``<doc_id>:<chunk_index>``; text, hash and characters
        are the chunk's; all else is the document's.
    """
    texts = rows.column("text").to_pylist()
    return chunk_rows(rows, texts, chunker.spans(texts))


def chunk_rows(
    rows: pa.RecordBatch, texts: Sequence[str], spans: Sequence[Spans], first: int = 0
) -> pa.RecordBatch:
    """Makes the rows of chunks.

    Args:
        rows: Whole documents, of ``DOCUMENT_SCHEMA`` and any columns behind it.
        texts: Their texts.
        spans: Chunks of each of them.
        first: Number of each document's first chunk here.

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
    arrays = [
        changed[name] if name in changed else repeated.column(name) for name in rows.schema.names
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)
