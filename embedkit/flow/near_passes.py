"""The passes that find near duplicates, each a function that any worker may call.

    parts -> SurveyRows  -> text hashes by range, and a sample of the vectors
    range -> EqualTexts  -> rows of equal texts
    parts -> AssignRows  -> one row of each text, in the files of its two nearest cells
    cell  -> ConnectCell -> rows that are connected inside it
    parts -> ReadIds     -> ids of the rows in groups

None of them holds more than a buffer of rows, or a cell. What they find depends on the rows alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.corpus.splits import FileRange, Split
from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import iter_whole, read_whole
from embedkit.dataset.rows import opened_part, read_rows
from embedkit.dataset.stores import in_order
from embedkit.dataset.version import Version
from embedkit.flow.scratch import Scratch
from embedkit.reports.near.cells import Matrix, nearest_cells
from embedkit.reports.near.components import Edges
from embedkit.reports.near.pairs import (
    Limits,
    Rows,
    close_pairs,
    drawn,
    edges_of_cell,
    row_type,
)
from embedkit.reports.repeats import hash64
from embedkit.reports.sample import keys_of
from embedkit.vectors import vectors_of

ROW_BITS = 32
"""Bits of a place that tell the row of a part; those before them tell the part."""

Places = NDArray[np.int64]

TEXT = np.dtype([("hash", "<u8"), ("key", "<u8"), ("place", "<i8")])
"""A row by the hash of its text."""

_ROWS_AT_ONCE = 2048
_PARTS_AT_ONCE = 4
_BUFFER_BYTES = 32 << 20
_PROBED_PAIRS = 4096
_PIECE_ROWS = 8192
_PART_COLUMNS = ["id", "doc_id", "embedding"]


@dataclass(frozen=True)
class PartsToRead:
    """Consecutive parts of a version, which one worker reads.

    Attributes:
        number: How many such runs are before it.
        version: The version.
        first: How many parts are before it.
        parts: The parts.
        repeats: Places of rows in them whose text another row stands for, ascending.
        standing: Places of rows in them that stand for others of their text, ascending.
        wanted: Places of rows in them whose ids are asked for, ascending.
    """

    number: int
    version: Version
    first: int
    parts: tuple[Part, ...]
    repeats: Places = field(default_factory=lambda: np.empty(0, np.int64))
    standing: Places = field(default_factory=lambda: np.empty(0, np.int64))
    wanted: Places = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def rows(self) -> int:
        """Rows of the parts."""
        return sum(part.rows for part in self.parts)

    @property
    def split(self) -> Split:
        """The parts as an engine's workers are given files."""
        return _split(
            self.number, ((f"{self.version.url}/{one.path}", one.size) for one in self.parts)
        )

    def among(self, places: Places) -> Places:
        """Returns those of some ascending places that are of these parts."""
        bounds = np.array([self.first, self.first + len(self.parts)]) << ROW_BITS
        start, end = np.searchsorted(places, bounds)
        return places[start:end]

    def of_each(self) -> Iterator[tuple[Part, int]]:
        """Yields each part with the place of its first row."""
        for number, part in enumerate(self.parts, self.first):
            yield part, number << ROW_BITS


def _split(number: int, files: Iterator[tuple[str, int]]) -> Split:
    ranges = (FileRange(url, url, size, "", "parquet", "none", 0, 1, size) for url, size in files)
    return Split(f"{number:05d}", tuple(ranges))


@dataclass(frozen=True, eq=False)
class Surveyed:
    """What the first pass found in some parts.

    Attributes:
        bounds: Where each range of text hashes begins in their file, and the last one ends.
        sample: The rows drawn from them.
    """

    bounds: NDArray[np.int64]
    sample: Rows


@dataclass(frozen=True)
class SurveyRows:
    """Writes the text hashes of rows, sorted, and draws a sample of them.

    Attributes:
        scratch: Where the hashes go.
        ranges: Into how many ranges they are parted, a power of two.
        wanted: Rows of the sample.
        rows: Rows of the version.
        dimension: Components of a vector.
    """

    scratch: Scratch
    ranges: int
    wanted: int
    rows: int
    dimension: int

    def __call__(self, run: PartsToRead) -> Surveyed:
        """Reads ids and text hashes of all rows, and vectors of those that are drawn.

        Raises:
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        texts = np.empty(run.rows, TEXT)
        samples = [np.empty(0, row_type(self.dimension))]
        end = 0
        for part, first in run.of_each():
            start, end = end, end + part.rows
            with opened_part(run.version, part) as file:
                texts[start:end] = _texts_of(read_whole(file, ["id", "text_hash"]), first)
                keys = texts["key"][start:end]
                chosen = np.flatnonzero(drawn(keys, self.wanted, self.rows))
                if len(chosen):
                    samples += _rows_at(file, chosen, first)
        texts = texts[np.argsort(texts["hash"], kind="stable")]
        self.scratch.write(f"texts-{run.number}", texts)
        firsts = np.array([(n << 64) // self.ranges for n in range(self.ranges)], np.uint64)
        bounds = np.append(np.searchsorted(texts["hash"], firsts), len(texts))
        return Surveyed(bounds.astype(np.int64), np.concatenate(samples))


def _texts_of(rows: pa.Table, first: int) -> Rows:
    """Returns rows by the hashes of their texts, the first of which has a place."""
    texts = np.empty(len(rows), TEXT)
    texts["hash"] = hash64(rows.column("text_hash"))
    texts["key"] = keys_of(rows.column("id"))
    texts["place"] = np.arange(first, first + len(rows))
    return texts


def _rows_at(file: pq.ParquetFile, chosen: Places, first: int) -> Iterator[Rows]:
    """Yields some rows of a part, given by ascending numbers, whose first row has a place."""
    start = 0
    for batch in iter_whole(file, _ROWS_AT_ONCE, _PART_COLUMNS):
        inside = chosen[
            np.searchsorted(chosen, start) : np.searchsorted(chosen, start + len(batch))
        ]
        if len(inside):
            yield _with_direction(batch.take(pa.array(inside - start)), inside + first)
        start += len(batch)


def _with_direction(rows: pa.Table | pa.RecordBatch, places: Places) -> Rows:
    """Returns rows as they are put into cells; those whose vector has no direction are left out."""
    matrix = vectors_of(rows).matrix.astype(np.float32)
    # In float64, where no length of finite components overflows.
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    usable = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    found = np.zeros(len(usable), row_type(matrix.shape[1]))
    found["place"] = places[usable]
    found["key"] = keys_of(rows.column("id"))[usable]
    found["document"] = keys_of(rows.column("doc_id"))[usable]
    found["vector"] = matrix[usable] / lengths[usable, None]
    return found


def stand_for_others(rows: Rows, standing: Places) -> None:
    """Takes rows out of their documents that stand for rows of other ones as well."""
    stands = np.isin(rows["place"], standing)
    rows["document"][stands] = rows["key"][stands]


@dataclass(frozen=True, eq=False)
class FewRows:
    """All rows of a small version.

    Attributes:
        texts: Each by the hash of its text, in their order.
        rows: Those whose vector has a direction.
        ids: The ids of all.
    """

    texts: Rows
    rows: Rows
    ids: pa.Array


def read_few_rows(run: PartsToRead) -> FewRows:
    """Reads all rows of a small version, in one pass over its parts.

    Raises:
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """

    def read(one: tuple[Part, int]) -> FewRows:
        part, first = one
        table = read_rows(run.version, part, [*_PART_COLUMNS, "text_hash"])
        texts = _texts_of(table, first)
        ids = table.column("id").combine_chunks().cast(pa.string())
        return FewRows(texts, _with_direction(table, texts["place"]), ids)

    found = [few for _, few in in_order(read, run.of_each(), _PARTS_AT_ONCE)]
    return FewRows(
        np.concatenate([np.empty(0, TEXT), *(few.texts for few in found)]),
        np.concatenate([few.rows for few in found] or [np.empty(0, row_type(1))]),
        pa.concat_arrays([pa.array([], pa.string()), *(few.ids for few in found)]),
    )


@dataclass(frozen=True)
class Slice:
    """Rows of a file that an earlier pass wrote.

    Attributes:
        name: The file.
        start: How many of its rows are before them.
        count: How many they are.
    """

    name: str
    start: int
    count: int


@dataclass(frozen=True)
class Slices:
    """Rows that belong together, of all files; a range of hashes, or a cell.

    Attributes:
        number: The range or cell.
        slices: Where they are.
        row_bytes: Bytes of a row.
    """

    number: int
    slices: tuple[Slice, ...]
    row_bytes: int

    @property
    def rows(self) -> int:
        """How many they are."""
        return sum(one.count for one in self.slices)

    @property
    def split(self) -> Split:
        """The rows as an engine's workers are given files."""
        sizes = ((one.name, one.count * self.row_bytes) for one in self.slices)
        return _split(self.number, sizes)


@dataclass(frozen=True)
class EqualTexts:
    """Finds the rows of equal texts in a range of hashes.

    Texts are told apart by 64 bits of their hash, as ``name_repeats`` says.

    Attributes:
        scratch: Where the hashes are.
    """

    scratch: Scratch

    def __call__(self, texts: Slices) -> Edges:
        """Returns each row whose text another one stands for, behind the place of that one.

        Raises:
            StoreError: The store failed.
        """
        read = [self.scratch.read(one.name, TEXT, one.start, one.count) for one in texts.slices]
        return equal_texts(np.concatenate([np.empty(0, TEXT), *read]))


def equal_texts(rows: Rows) -> Edges:
    """Returns each row whose text another one stands for, behind the place of that one.

    Args:
        rows: Rows by the hashes of their texts, all of each hash.
    """
    rows = rows[np.lexsort((rows["place"], rows["key"], rows["hash"]))]
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = rows["hash"][1:] != rows["hash"][:-1]
    stands = rows["place"][begins][np.cumsum(begins) - 1]
    edges: Edges = np.column_stack([stands, rows["place"]])[~begins]
    return edges


@dataclass(frozen=True, eq=False)
class Assigned:
    """What came of the rows of some parts.

    Attributes:
        files: Each file that was written, with where the rows of each cell begin in it.
        compared: Rows that went to cells.
        unusable: Rows whose vector has no direction.
        pairs: Pairs of a probe and a row of these, by their places.
    """

    files: tuple[tuple[str, NDArray[np.int64]], ...]
    compared: int
    unusable: int
    pairs: Edges


@dataclass(frozen=True, eq=False)
class AssignRows:
    """Writes rows into the files of the cells that they are nearest to.

    Attributes:
        scratch: Where the files go.
        centres: The cells.
        threshold: Least cosine of a pair.
        probes: Rows that are compared with all, to tell how many pairs the cells lose.
    """

    scratch: Scratch
    centres: Matrix
    threshold: float
    probes: Rows

    def __call__(self, run: PartsToRead) -> Assigned:
        """Reads the rows, but those whose text another one stands for.

        Raises:
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        files: list[tuple[str, NDArray[np.int64]]] = []
        waiting: list[Rows] = []
        cells: list[NDArray[np.int64]] = []
        pairs: list[Edges] = [np.empty((0, 2), np.int64)]
        compared = unusable = 0
        for rows, left_out in self._rows(run):
            waiting.append(rows)
            cells.append(nearest_cells(rows["vector"], self.centres))
            pairs.append(self._probed(rows))
            compared, unusable = compared + len(rows), unusable + left_out
            if sum(one.nbytes for one in waiting) >= _BUFFER_BYTES:
                files.append(self._write(f"rows-{run.number}-{len(files)}", waiting, cells))
                waiting, cells = [], []
        if waiting:
            files.append(self._write(f"rows-{run.number}-{len(files)}", waiting, cells))
        return Assigned(tuple(files), compared, unusable, np.concatenate(pairs)[:_PROBED_PAIRS])

    def _rows(self, run: PartsToRead) -> Iterator[tuple[Rows, int]]:
        for part, first in run.of_each():
            with opened_part(run.version, part) as file:
                for batch in iter_whole(file, _ROWS_AT_ONCE, _PART_COLUMNS):
                    places = np.arange(first, first + len(batch))
                    kept = np.flatnonzero(~np.isin(places, run.repeats))
                    rows = _with_direction(batch.take(pa.array(kept)), places[kept])
                    stand_for_others(rows, run.standing)
                    yield rows, len(kept) - len(rows)
                    first += len(batch)

    def _probed(self, rows: Rows) -> Edges:
        left, right = close_pairs(rows["vector"], self.probes["vector"], self.threshold)
        other = rows["place"][left] != self.probes["place"][right]
        other &= rows["document"][left] != self.probes["document"][right]
        pairs: Edges = np.column_stack([self.probes["place"][right], rows["place"][left]])
        found: Edges = pairs[other][:_PROBED_PAIRS]
        return found

    def _write(
        self, name: str, rows: Sequence[Rows], cells: Sequence[NDArray[np.int64]]
    ) -> tuple[str, NDArray[np.int64]]:
        numbers = np.concatenate(cells)
        order = np.argsort(numbers.ravel(), kind="stable")
        counts = np.bincount(numbers.ravel(), minlength=len(self.centres))
        self.scratch.write(name, np.concatenate(rows)[order // numbers.shape[1]])
        return name, np.append(0, np.cumsum(counts)).astype(np.int64)


@dataclass(frozen=True)
class ConnectCell:
    """Connects the rows of a cell by their close pairs.

    Attributes:
        scratch: Where its rows are.
        dimension: Components of a vector.
        threshold: Least cosine of a pair.
        limits: How large cells may be.
    """

    scratch: Scratch
    dimension: int
    threshold: float
    limits: Limits

    def __call__(self, cell: Slices) -> Edges:
        """Returns places of rows, each with that of the least row it is connected with.

        Raises:
            OSError: There is no room on the local disk to part a large cell.
            StoreError: The store failed.
        """
        pieces = partial(self._pieces, cell)
        return edges_of_cell(pieces, cell.rows, self.threshold, self.limits)

    def _pieces(self, cell: Slices) -> Iterator[Rows]:
        dtype = row_type(self.dimension)
        for one in cell.slices:
            for start in range(0, one.count, _PIECE_ROWS):
                count = min(_PIECE_ROWS, one.count - start)
                yield self.scratch.read(one.name, dtype, one.start + start, count)


@dataclass(frozen=True)
class ReadIds:
    """Reads the ids of rows."""

    def __call__(self, run: PartsToRead) -> pa.Array:
        """Returns the ids of the rows that are wanted of some parts.

        Raises:
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        found: list[pa.Array] = [pa.array([], pa.string())]
        for part, first in run.of_each():
            start, end = np.searchsorted(run.wanted, [first, first + part.rows])
            if start < end:
                places = run.wanted[start:end] - first
                ids = read_rows(run.version, part, ["id"], places).column("id")
                found.append(ids.combine_chunks().cast(pa.string()))
        return pa.concat_arrays(found)
