"""Cuts documents into blocks, by rows and by bytes."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.config import RecordConfig
from embedkit.corpus.arrow_values import row_bytes
from embedkit.corpus.chunks import Chunker, Spans, chunk_rows, windows_of
from embedkit.corpus.documents import MOST_RECORD_BYTES, Documents, empty_rows
from embedkit.records import PLACE_SCHEMA, DocumentBlock, Nulled, Reject, add_nulled

_CHUNK_AT_ONCE_DOCUMENTS = 512
_CHUNK_AT_ONCE_BYTES = 1 << 20
_FREE_METADATA_BYTES = 4096
"""Bytes of a row's metadata, and of its ids and hashes, that do not count for a block's size."""
_LINE = "\0line"
"""Name of a column that no file has."""
# Smaller documents stay in one block, however small a block is to be.
_LARGE_DOCUMENT_ROWS = 1024
_LARGE_DOCUMENT_BYTES = 1 << 20


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
    of its own, or several where its chunks are too many or too large for one.

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
    largest = _Size(
        max(config.block_rows, _LARGE_DOCUMENT_ROWS), max(config.block_bytes, _LARGE_DOCUMENT_BYTES)
    )
    for batch in map(_with_lines, documents):
        for items in _items(batch, chunker, largest):
            if isinstance(items, _LargeDocument):
                for number, rows in enumerate(items.pieces(largest)):
                    if block.begun:
                        yield block.take(last=False)
                    block.add_piece(rows, () if number else items.nulled, first=number == 0)
                continue
            start = 0
            while start < len(items):
                stop = block.fitting(items, start)
                if stop > start:
                    block.add(items, start, stop)
                else:
                    yield block.take(last=False)
                start = stop
    yield block.take(last=True)


def _with_lines(documents: Documents) -> Documents:
    """Gives the rows their lines, so that each keeps its own wherever it goes."""
    if documents.lines is None:
        return documents
    rows = documents.rows.append_column(_LINE, pa.array(documents.lines, pa.int64()))
    return Documents(rows, documents.rejects, documents.before, documents.nulled)


class _Items:
    """Documents, each with all of its rows, and rejects, in one order.

    Attributes:
        row_ends: Rows of all items up to and including each, int64.
        weight_ends: The same with a reject counted as a row.
        byte_ends: The same for bytes of text.
        reject_ends: The same for rejects.
        nulled: Number of the document, column and example of each metadata value that became null.
    """

    def __init__(
        self,
        rows: pa.RecordBatch,
        counts: NDArray[np.int64],
        rejects: tuple[Reject, ...],
        before: NDArray[np.int64],
        nulled: Iterable[tuple[int, str, str]] = (),
    ) -> None:
        self.rows = rows
        self.rejects = rejects
        self.nulled = sorted(nulled)
        text_bytes = pc.binary_length(rows.column("text")).to_numpy(zero_copy_only=False)
        text_bytes = text_bytes + np.maximum(_metadata_bytes(rows) - _FREE_METADATA_BYTES, 0)
        ends = np.cumsum(counts)
        cumulated = np.concatenate([[0], np.cumsum(text_bytes, dtype=np.int64)])
        document_bytes = np.diff(cumulated[np.concatenate([[0], ends])])
        self.row_ends = np.cumsum(np.insert(counts, before, 0))
        self.weight_ends = np.cumsum(np.insert(counts, before, 1))
        self.byte_ends = np.cumsum(np.insert(document_bytes, before, 0))
        self.reject_ends = np.cumsum(np.insert(np.zeros_like(counts), before, 1))

    def __len__(self) -> int:
        return len(self.row_ends)


class _Size(NamedTuple):
    """Rows, and the bytes of their texts and of the metadata that each of them repeats."""

    rows: int
    size: int


@dataclass(frozen=True)
class _LargeDocument:
    """A document, as the one row, with more chunks than a block may have."""

    row: pa.RecordBatch
    text: str
    spans: Spans
    windows: Spans | None
    row_bytes: int
    nulled: tuple[Nulled, ...]

    def pieces(self, most: _Size) -> Iterator[pa.RecordBatch]:
        """Yields the rows of its chunks, as many at a time as a block may have."""
        start = size = 0
        for stop, (begin, end) in enumerate(self.spans):
            more = self.row_bytes + len(self.text[begin:end].encode())
            if stop > start and (stop - start == most.rows or size + more > most.size):
                yield self._rows(start, stop)
                start, size = stop, 0
            size += more
        yield self._rows(start, len(self.spans))

    def _rows(self, start: int, stop: int) -> pa.RecordBatch:
        windows = None if self.windows is None else [self.windows[start:stop]]
        return chunk_rows(self.row, [self.text], [self.spans[start:stop]], start, windows)


def _items(
    batch: Documents, chunker: Chunker | None, largest: _Size
) -> Iterator[_Items | _LargeDocument]:
    if chunker is None or not batch.rows.num_rows:
        counts = np.ones(batch.rows.num_rows, dtype=np.int64)
        yield _Items(batch.rows, counts, batch.rejects, batch.before, batch.nulled)
        return
    lengths = pc.binary_length(batch.rows.column("text")).to_numpy(zero_copy_only=False)
    start = 0
    while start < len(lengths):
        sizes = np.cumsum(lengths[start : start + _CHUNK_AT_ONCE_DOCUMENTS], dtype=np.int64)
        stop = start + max(1, int(np.searchsorted(sizes, _CHUNK_AT_ONCE_BYTES, side="right")))
        yield from _chunked(batch, start, stop, chunker, largest)
        start = stop
    # Rejects behind the last row.
    yield _with_rejects(batch, len(lengths), len(lengths), batch.rows.slice(0, 0), [])


def _chunked(
    batch: Documents, start: int, stop: int, chunker: Chunker, largest: _Size
) -> Iterator[_Items | _LargeDocument]:
    rows = batch.rows.slice(start, stop - start)
    texts = rows.column("text").to_pylist()
    spans = chunker.spans(texts)
    windows = windows_of(chunker, texts, spans)
    lengths = pc.binary_length(rows.column("text")).to_numpy(zero_copy_only=False)
    row_bytes = _metadata_bytes(rows)
    counts = np.fromiter(map(len, spans), dtype=np.int64, count=len(spans))
    sizes = lengths + counts * row_bytes

    def together(first: int, end: int) -> _Items:
        around = None if windows is None else windows[first:end]
        documents = rows.slice(first, end - first)
        chunks = chunk_rows(documents, texts[first:end], spans[first:end], windows=around)
        return _with_rejects(batch, start + first, start + end, chunks, counts[first:end])

    first = size = 0
    for place in range(len(spans)):
        is_large = counts[place] > largest.rows or sizes[place] > largest.size
        if place > first and (is_large or size + sizes[place] > largest.size):
            yield together(first, place)
            first, size = place, 0
        size += int(sizes[place])
        if is_large:
            alone = _with_rejects(batch, start + place, start + place + 1, rows.slice(0, 0), [])
            yield alone
            row = rows.slice(place, 1)
            nulled = tuple(Nulled(name, 1, what) for _, name, what in alone.nulled)
            around = None if windows is None else windows[place]
            yield _LargeDocument(
                row, texts[place], spans[place], around, int(row_bytes[place]), nulled
            )
            first, size = place + 1, 0
    if first < len(spans):
        yield together(first, len(spans))


def _with_rejects(
    batch: Documents,
    start: int,
    stop: int,
    rows: pa.RecordBatch,
    counts: Sequence[int] | NDArray[np.int64],
) -> _Items:
    """Returns the rows of some documents with the rejects before each of them."""
    chosen = np.flatnonzero((batch.before >= start) & (batch.before < max(stop, start + 1)))
    rejects = tuple(batch.rejects[place] for place in chosen)
    before = batch.before[chosen] - start
    nulled = [(row - start, name, what) for row, name, what in batch.nulled if start <= row < stop]
    return _Items(rows, np.asarray(counts, dtype=np.int64), rejects, before, nulled)


def _metadata_bytes(rows: pa.RecordBatch) -> NDArray[np.int64]:
    """Returns the bytes of each row's metadata beside its text, which every chunk repeats."""
    total = np.zeros(rows.num_rows, dtype=np.int64)
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if name != "text" and not pa.types.is_primitive(column.type):
            total += row_bytes(column)
    return total


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
        self._continues = False
        self._nulled: tuple[Nulled, ...] = ()
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
        return max(stop, start + (not self.begun))

    @property
    def begun(self) -> bool:
        """Whether anything is in it."""
        return self._weight > 0

    def add(self, items: _Items, start: int, stop: int) -> None:
        first, end = _before(items.row_ends, start), int(items.row_ends[stop - 1])
        if end > first:
            self._pieces.append(items.rows.slice(first, end - first))
        rejects = slice(_before(items.reject_ends, start), int(items.reject_ends[stop - 1]))
        self._rejects.extend(items.rejects[rejects])
        places = (
            bisect_left(items.nulled, start - rejects.start, key=itemgetter(0)),
            bisect_left(items.nulled, stop - rejects.stop, key=itemgetter(0)),
        )
        nulled = (Nulled(name, 1, what) for _, name, what in items.nulled[slice(*places)])
        self._nulled = add_nulled((*self._nulled, *nulled))
        self._documents += stop - start
        self._weight += int(items.weight_ends[stop - 1]) - _before(items.weight_ends, start)
        self._bytes += int(items.byte_ends[stop - 1]) - _before(items.byte_ends, start)

    def add_piece(self, rows: pa.RecordBatch, nulled: tuple[Nulled, ...], first: bool) -> None:
        """Adds a part of a document that is too large for one block; it is counted with its first.

        The block is full with it, as the next document or part goes to the next block.
        """
        self._pieces.append(rows)
        self._nulled = nulled
        self._continues = not first
        self._documents += first
        self._weight += max(rows.num_rows, self._max_rows)
        self._bytes = self._max_bytes

    def take(self, last: bool) -> DocumentBlock:
        """Returns the block as it stands and begins the next one."""
        rows, places = _parted(_joined(self._pieces, self._schema))
        block = DocumentBlock(
            split_id=self._split_id,
            seq=self._seq,
            documents=self._documents,
            last=last,
            rejects=tuple(self._rejects),
            rows=rows,
            documents_before=self._before,
            continues=self._continues,
            nulled=self._nulled,
            places=places,
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
    return pa.Table.from_batches(pieces, pieces[0].schema).combine_chunks().to_batches()[0]


def _parted(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Takes the lines of rows off again: the rows, and the places of their documents."""
    if _LINE not in rows.schema.names:
        return rows, None
    places = [rows.column(name) for name in ("source", "row_index", _LINE)]
    names = [name for name in rows.schema.names if name != _LINE]
    return rows.select(names), pa.RecordBatch.from_arrays(places, schema=PLACE_SCHEMA)
