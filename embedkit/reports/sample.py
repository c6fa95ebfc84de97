"""The rows of a version that a report looks at one by one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.digests import hashes_of
from embedkit.records import LINE_FIELD
from embedkit.reports.packed import Hashes, Integers, Texts
from embedkit.vectors import VALUE_COLUMNS, EmbeddingBlock, Vectors, vectors_of

MOST_ROWS = 512
"""Rows of a sample, unless their vectors are very long."""

EXCERPT = 160
"""Characters of a text that a report keeps."""

_KEYS_OF_A_BLOCK = 32
_MOST_COMPONENTS = 1 << 19
"""Components of all vectors of a sample together: 2 MiB, a small part of any block's own."""

_COLUMNS = ("id", "text_hash", "source", "row_index", "n_tokens", "doc_id", LINE_FIELD.name)


def _no_keys() -> NDArray[np.uint64]:
    return np.empty(0, np.uint64)


def _no_numbers() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class RowKeys:
    """Which rows of the blocks have the smallest hash of id.

    Those are as good as drawn at random, and the same every time. The smallest of a union are among
    the smallest of its parts, so merging is exact, associative and commutative.

    A block keeps few keys, as many blocks share a sample. A block whose last key is among the
    smallest of all may hold more of them, and its ids have to be read: no more than 16 blocks do,
    since each has 32 of the 512 rows by then.

    Attributes:
        most: Rows of the sample; 0 where there is no row.
        keys: Hashes of ids, ascending, uint64, shape (n,).
        splits: The number of the split that each row is in, int64, shape (n,).
        seqs: The number of its block in the split.
        rows: Its place in the block; -1 where an earlier release wrote none.
        ends: 1 where its block may have more rows with keys above this one, else 0.
        texts: The beginnings of their texts; none where parts hold the texts, or nobody shall.
    """

    most: int = 0
    keys: Hashes = field(default_factory=_no_keys)
    splits: Integers = field(default_factory=_no_numbers)
    seqs: Integers = field(default_factory=_no_numbers)
    rows: Integers = field(default_factory=_no_numbers)
    ends: Integers = field(default_factory=_no_numbers)
    texts: Texts = ()

    def __post_init__(self) -> None:
        columns = (self.keys, self.splits, self.seqs, self.rows, self.ends)
        if len({*map(len, columns), len(self.texts) or len(self.keys)}) > 1:
            raise ValueError("columns of different lengths")

    @classmethod
    def of(cls, block: EmbeddingBlock, keep_texts: bool = False) -> Self:
        """Chooses the rows of one block.

        Args:
            block: The block.
            keep_texts: Whether the beginnings of texts are kept, as parts will not hold them: then
                of all rows that may be in a sample.
        """
        if not block.rows.num_rows:
            return cls()
        keys = keys_of(block.rows.column("id"))
        most = most_rows(block.vectors.width)
        chosen = np.argsort(keys, kind="stable")[: most if keep_texts else _KEYS_OF_A_BLOCK]
        texts: tuple[str, ...] = ()
        if keep_texts:
            found = block.rows.column("text").take(pa.array(chosen)).to_pylist()
            texts = tuple(map(excerpt, found))
        return cls.of_block(block.block_id, most, keys[chosen], chosen, len(keys), texts)

    @classmethod
    def of_block(
        cls,
        block_id: str,
        most: int,
        keys: NDArray[np.uint64],
        places: NDArray[np.int64],
        rows: int,
        texts: tuple[str, ...] = (),
    ) -> Self:
        """Takes the smallest keys of a block.

        Args:
            block_id: The block.
            most: Rows of the sample.
            keys: The keys, ascending.
            places: The places of their rows in the block.
            rows: How many rows the block has.
            texts: The beginnings of their texts.
        """
        split, _, seq = block_id.partition("-")
        ends = np.zeros(len(keys), np.int64)
        ends[-1:] = len(keys) < rows
        return cls(
            most,
            keys,
            np.full(len(keys), int(split)),
            np.full(len(keys), int(seq)),
            places.astype(np.int64),
            ends,
            texts,
        )

    def in_block(self, block_id: str) -> Self:
        """Returns the keys of one block as those of a block of another name, with equal rows."""
        split, _, seq = block_id.partition("-")
        rows = len(self)
        return replace(self, splits=np.full(rows, int(split)), seqs=np.full(rows, int(seq)))

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self.keys)

    def __add__(self, other: Self) -> Self:
        """Returns the smallest of both."""
        if not len(self) or not len(other):
            return self if len(self) else other
        names = ("keys", "splits", "seqs", "rows", "ends")
        columns = {n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in names}
        texts: tuple[str, ...] = ()
        if self.texts or other.texts:
            texts = (self.texts or ("",) * len(self)) + (other.texts or ("",) * len(other))
        both = type(self)(max(self.most, other.most), **columns, texts=texts)
        return both.smallest()

    def smallest(self) -> Self:
        """Returns the smallest keys in order; more than ``most`` only where keys are equal."""
        order = np.lexsort((self.rows, self.seqs, self.splits, self.keys))
        if len(order) > self.most:
            order = order[: np.searchsorted(self.keys[order], self._bound, side="right")]
        return self._take(order)

    @property
    def _bound(self) -> np.uint64:
        """The largest key that may be in the sample."""
        if len(self) < max(1, self.most):
            return np.uint64(np.iinfo(np.uint64).max)
        bound: np.uint64 = np.partition(self.keys, self.most - 1)[self.most - 1]
        return bound

    def _take(self, order: NDArray[np.intp]) -> Self:
        return replace(
            self,
            keys=self.keys[order],
            splits=self.splits[order],
            seqs=self.seqs[order],
            rows=self.rows[order],
            ends=self.ends[order],
            texts=tuple(self.texts[place] for place in order) if self.texts else (),
        )

    def _block_ids(self) -> list[str]:
        pairs = zip(self.splits.tolist(), self.seqs.tolist(), strict=True)
        return [f"{split:05d}-{seq:05d}" for split, seq in pairs]

    def unsure(self) -> list[str]:
        """Returns the blocks whose ids must be read to know their rows, in block order."""
        more = (self.ends > 0) & (self.keys < self._bound)
        unsure = self._take(np.flatnonzero(more | (self.rows < 0)))
        order = np.lexsort((unsure.seqs, unsure.splits))
        return list(dict.fromkeys(unsure._take(order)._block_ids()))

    def with_ids(self, block_id: str, ids: pa.Array) -> Self:
        """Returns the keys with all of a block's in the place of those that were known."""
        keys = keys_of(ids)
        order = np.argsort(keys, kind="stable")
        order = order[keys[order] <= self._bound]
        texts = dict(zip(self.keys.tolist(), self.texts, strict=False))
        known = tuple(texts.get(key, "") for key in keys[order].tolist()) if texts else ()
        anew = self.of_block(block_id, self.most, keys[order], order, len(order), known)
        elsewhere = np.array([one != block_id for one in self._block_ids()], np.bool_)
        return self._take(np.flatnonzero(elsewhere)) + anew

    def by_block(self) -> Iterator[tuple[str, Self]]:
        """Yields the sampled rows of each block, in block order, by their place in the block."""
        ours = self._take(np.lexsort((self.rows, self.seqs, self.splits, self.keys))[: self.most])
        ours = ours._take(np.lexsort((ours.rows, ours.seqs, ours.splits)))
        for block_id, places in groupby(enumerate(ours._block_ids()), key=itemgetter(1)):
            yield block_id, ours._take(np.array([place for place, _ in places]))


@dataclass(frozen=True, slots=True)
class SampledRow:
    """What a report tells of a row besides its vector.

    Attributes:
        key: Hash of the id, by which rows are chosen.
        id: The row's id.
        text: Its text's first characters, see ``excerpt``; empty where none are shown.
        text_hash: Hash of the whole text.
        source: The file it came from.
        row_index: Its place there.
        n_tokens: Its tokens before truncation.
        doc_id: The document that it is, or is a chunk of.
        line: The line of its document, counted from where a range of the file begins until the
            report is written; None where there is none.
    """

    key: int
    id: str
    text: str
    text_hash: str
    source: str
    row_index: int
    n_tokens: int
    doc_id: str = ""
    line: int | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows with the smallest hash of id.

    Attributes:
        rows: The rows, by ascending key.
        vectors: Their vectors, float32, shape (rows, dimension); of a row with many, their sum.
    """

    rows: tuple[SampledRow, ...] = ()
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True, eq=False)
class Wanted:
    """Rows of one block that are to be read.

    Attributes:
        block_id: The block.
        columns: The columns; one that the part does not have is left out.
        rows: Their places in the block, ascending, int64, shape (n,); None reads all.
    """

    block_id: str
    columns: tuple[str, ...]
    rows: NDArray[np.int64] | None = None


class ReadRows(Protocol):
    """Reads rows of committed blocks."""

    def __call__(self, wanted: Sequence[Wanted]) -> Iterable[pa.Table | pa.RecordBatch]:
        """Yields the rows of each block in turn."""
        ...


def read_sample(keys: RowKeys, read: ReadRows, texts: bool = False) -> Sample:
    """Reads the sampled rows of a version.

    Args:
        keys: The keys of all its blocks, added.
        read: Reads the rows.
        texts: Whether the beginnings of stored texts are shown.
    """
    unsure = keys.unsure()
    found = read([Wanted(block_id, ("id",)) for block_id in unsure])
    for block_id, table in zip(unsure, found, strict=True):
        keys = keys.with_ids(block_id, table.column("id"))
    blocks = dict(keys.by_block())
    columns = (*_COLUMNS, *VALUE_COLUMNS, *(["text"] if texts else []))
    tables = read([Wanted(block_id, columns, ours.rows) for block_id, ours in blocks.items()])
    rows: list[SampledRow] = []
    vectors: list[NDArray[np.float32]] = []
    for ours, table in zip(blocks.values(), tables, strict=True):
        rows += _sampled(ours, table)
        vectors.append(_one_each(vectors_of(table)))
    if not rows:
        return Sample()
    order = sorted(range(len(rows)), key=lambda place: (rows[place].key, rows[place].id))
    return Sample(tuple(rows[place] for place in order), np.concatenate(vectors)[order])


def _sampled(keys: RowKeys, table: pa.Table | pa.RecordBatch) -> Iterator[SampledRow]:
    names = [name for name in (*_COLUMNS, "text") if name in table.schema.names]
    kept = keys.texts or ("",) * len(keys)
    found = zip(keys.keys.tolist(), kept, table.select(names).to_pylist(), strict=True)
    for key, text, row in found:
        line = row.pop(LINE_FIELD.name, None)
        yield SampledRow(
            **{**row, "key": key, "text": excerpt(row.get("text", text)), "line": line}
        )


def _one_each(vectors: Vectors) -> NDArray[np.float32]:
    if vectors.offsets is None:
        matrix: NDArray[np.float32] = vectors.stacked.astype(np.float32)
        return matrix
    sums = np.zeros((len(vectors), vectors.width), np.float32)
    # One row at a time, as all of them in double precision may be very large.
    for row in np.flatnonzero(vectors.counts).tolist():
        sums[row] = vectors.of_row(row).sum(axis=0, dtype=np.float64)
    return sums


def keys_of(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Returns the keys by which rows are chosen, uint64, shape (n,)."""
    return np.frombuffer(hashes_of(ids.to_pylist(), 8), "<u8").astype(np.uint64)


def excerpt(text: str) -> str:
    """Returns a text's first characters, with an ellipsis where it goes on."""
    return text if len(text) <= EXCERPT else text[:EXCERPT] + "\u2026"


def most_rows(dimension: int) -> int:
    """Returns how many rows with such vectors a sample has."""
    return min(MOST_ROWS, max(64, _MOST_COMPONENTS // dimension))
