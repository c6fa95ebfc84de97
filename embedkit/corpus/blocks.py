"""Documents to blocks: cut by rows and by bytes, at document boundaries only."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.config import RecordConfig
from embedkit.corpus.chunking import Chunker, chunk_documents
from embedkit.corpus.documents import MOST_RECORD_BYTES, Documents, empty_rows
from embedkit.records import DocumentBlock, Reject

_CHUNK_AT_ONCE_DOCUMENTS = 512
_CHUNK_AT_ONCE_BYTES = 1 << 20


def make_blocks(
    split_id: str,
    documents: Iterable[Documents],
    schema: pa.Schema,
    config: RecordConfig,
    chunker: Chunker | None = None,
) -> Iterator[DocumentBlock]:
    """Gathers the documents of a split into blocks.

    A block ends before the document or reject that would take it past ``block_rows`` rows, of
    which a reject counts as one, or ``block_bytes`` bytes of text. So where it ends depends on
    the documents alone, never on the batches they come in. A single document with more is a block
    of its own.

    Args:
        split_id: The split.
        documents: Its documents and rejects, in order.
        schema: Schema of the rows.
        config: Says how large a block is.
        chunker: Cuts documents into chunks, or None.

    Yields:
        At least one block; the last one is marked.
    """
    block = _Block(split_id, schema, config.block_rows, min(config.block_bytes, MOST_RECORD_BYTES))
    for batch in documents:
        for items in _items(batch, chunker):
            start = 0
            while start < len(items):
                stop = block.fitting(items, start)
                if stop > start:
                    block.add(items, start, stop)
                else:
                    yield block.take(last=False)
                start = stop
    yield block.take(last=True)


class _Items:
    """Documents, each with all of its rows, and rejects, in one order.

    Attributes:
        row_ends: Rows of all items up to and including each, int64.
        weight_ends: The same with a reject counted as a row.
        byte_ends: The same for bytes of text.
        reject_ends: The same for rejects.
    """

    def __init__(
        self,
        rows: pa.RecordBatch,
        counts: NDArray[np.int64],
        rejects: tuple[Reject, ...],
        before: NDArray[np.int64],
    ) -> None:
        self.rows = rows
        self.rejects = rejects
        text_bytes = pc.binary_length(rows.column("text")).to_numpy(zero_copy_only=False)
        ends = np.cumsum(counts)
        cumulated = np.concatenate([[0], np.cumsum(text_bytes, dtype=np.int64)])
        document_bytes = np.diff(cumulated[np.concatenate([[0], ends])])
        self.row_ends = np.cumsum(np.insert(counts, before, 0))
        self.weight_ends = np.cumsum(np.insert(counts, before, 1))
        self.byte_ends = np.cumsum(np.insert(document_bytes, before, 0))
        self.reject_ends = np.cumsum(np.insert(np.zeros_like(counts), before, 1))

    def __len__(self) -> int:
        return len(self.row_ends)


def _items(batch: Documents, chunker: Chunker | None) -> Iterator[_Items]:
    if chunker is None or not batch.rows.num_rows:
        counts = np.ones(batch.rows.num_rows, dtype=np.int64)
        yield _Items(batch.rows, counts, batch.rejects, batch.before)
        return
    lengths = pc.binary_length(batch.rows.column("text")).to_numpy(zero_copy_only=False)
    start = 0
    while start < len(lengths):
        sizes = np.cumsum(lengths[start : start + _CHUNK_AT_ONCE_DOCUMENTS], dtype=np.int64)
        stop = start + max(1, int(np.searchsorted(sizes, _CHUNK_AT_ONCE_BYTES, side="right")))
        chunks = chunk_documents(batch.rows.slice(start, stop - start), chunker)
        firsts = np.flatnonzero(chunks.column("chunk_index").to_numpy() == 0)
        counts = np.diff(np.append(firsts, chunks.num_rows)).astype(np.int64)
        # Rejects behind the last row go with the last slice.
        last = np.inf if stop == len(lengths) else stop
        chosen = np.flatnonzero((batch.before >= start) & (batch.before < last))
        rejects = tuple(batch.rejects[place] for place in chosen)
        yield _Items(chunks, counts, rejects, batch.before[chosen] - start)
        start = stop


class _Block:
    """The block that is being filled."""

    def __init__(self, split_id: str, schema: pa.Schema, max_rows: int, max_bytes: int) -> None:
        self._split_id = split_id
        self._schema = schema
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._seq = 0
        self._before = 0
        self._clear()

    def _clear(self) -> None:
        self._pieces: list[pa.RecordBatch] = []
        self._rejects: list[Reject] = []
        self._documents = 0
        self._weight = 0
        self._bytes = 0

    def fitting(self, items: _Items, start: int) -> int:
        """Returns where the items end that fit, which is ``start`` where the block is full."""
        rows = self._max_rows - self._weight + _before(items.weight_ends, start)
        size = self._max_bytes - self._bytes + _before(items.byte_ends, start)
        stop = min(
            int(np.searchsorted(items.weight_ends, rows, side="right")),
            int(np.searchsorted(items.byte_ends, size, side="right")),
        )
        return max(stop, start + (not self._documents))

    def add(self, items: _Items, start: int, stop: int) -> None:
        first, end = _before(items.row_ends, start), int(items.row_ends[stop - 1])
        if end > first:
            self._pieces.append(items.rows.slice(first, end - first))
        rejects = slice(_before(items.reject_ends, start), int(items.reject_ends[stop - 1]))
        self._rejects.extend(items.rejects[rejects])
        self._documents += stop - start
        self._weight += int(items.weight_ends[stop - 1]) - _before(items.weight_ends, start)
        self._bytes += int(items.byte_ends[stop - 1]) - _before(items.byte_ends, start)

    def take(self, last: bool) -> DocumentBlock:
        """Returns the block as it stands and begins the next one."""
        block = DocumentBlock(
            split_id=self._split_id,
            seq=self._seq,
            documents=self._documents,
            last=last,
            rejects=tuple(self._rejects),
            rows=_joined(self._pieces, self._schema),
            documents_before=self._before,
        )
        self._seq += 1
        self._before += self._documents
        self._clear()
        return block


def _before(ends: NDArray[np.int64], start: int) -> int:
    return int(ends[start - 1]) if start else 0


def _joined(pieces: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    if not pieces:
        return empty_rows(schema)
    if len(pieces) == 1:
        return pieces[0]
    return pa.Table.from_batches(pieces, schema).combine_chunks().to_batches()[0]
