"""Rows of a version with their vectors, chosen by the hash of their ids."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.reports.repeats import hash64
from embedkit.reports.sample import keys_of
from embedkit.reports.values import LONGEST_VALUE
from embedkit.vectors import label_columns

MOST_SAMPLED = 25_000
"""Rows of a sample, unless their vectors are very long."""

_MOST_COMPONENTS = 1 << 24
"""Components of all vectors of a sample together: 64 MiB."""

_SPARE = 1.05
"""So many times the rows that are wanted are taken at first, as nobody knows their hashes."""

_ALL_KEYS = 1 << 64

_BEGINNING = 1000
"""Characters that are kept of a text."""

_LONGEST_VALUE = LONGEST_VALUE + 1
"""Characters that are kept of a metadata value: one that is too long to be told apart stays so."""


@dataclass(frozen=True, eq=False)
class SampledVectors:
    """Rows with their vectors.

    Attributes:
        keys: Hashes of their ids, uint64, shape (n,).
        places: Their places among all rows of the version, int64, shape (n,).
        documents: Hashes of the documents that they are, or are chunks of, uint64, shape (n,).
        texts: Hashes of their texts, uint64, shape (n,).
        vectors: Their vectors as they are stored, float32, shape (n, d).
        sources: The files that they came from, or None, shape (n,).
        beginnings: Their texts' beginnings, or None where it was not read, shape (n,).
        columns: Their ids and those metadata columns that were read, n rows; no column where these
            were not asked for.
    """

    keys: NDArray[np.uint64]
    places: NDArray[np.int64]
    documents: NDArray[np.uint64]
    texts: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    sources: NDArray[np.object_]
    beginnings: NDArray[np.object_]
    columns: pa.Table = field(default_factory=lambda: pa.table({}))

    @classmethod
    def none(cls) -> Self:
        """Returns no rows."""
        hashes, words = np.empty(0, np.uint64), np.empty(0, object)
        vectors = np.empty((0, 0), np.float32)
        return cls(hashes, np.empty(0, np.int64), hashes, hashes, vectors, words, words)

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.keys)

    def take(self, rows: NDArray[Any]) -> Self:
        """Returns some of the rows, given by their numbers or by whether they are among them."""
        places = np.arange(len(self))[rows]
        return type(self)(
            self.keys[rows],
            self.places[rows],
            self.documents[rows],
            self.texts[rows],
            self.vectors[rows],
            self.sources[rows],
            self.beginnings[rows],
            self.columns.take(pa.array(places)) if self.columns.num_columns else self.columns,
        )

    def one_of_each(self, names: NDArray[np.uint64]) -> Self:
        """Returns the first row of each name, in their order.

        Args:
            names: What tells rows from one another, shape (n,).
        """
        _, first = np.unique(names, return_index=True)
        return self.take(np.sort(first))

    def numbers_of(self, names: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Returns which row of ``one_of_each`` stands for each row, int64, shape (n,)."""
        _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        numbers: NDArray[np.int64] = np.argsort(np.argsort(first))[inverse]
        return numbers

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether each vector is finite and not zero, shape (n,)."""
        largest = np.abs(self.vectors).max(axis=1, initial=0)
        found: NDArray[np.bool_] = np.isfinite(largest) & (largest > 0)
        return found

    @property
    def units(self) -> NDArray[np.float32]:
        """The vectors scaled to length 1, float32, shape (n, d); all must be usable."""
        lengths = np.sqrt(np.einsum("ij,ij->i", self.vectors, self.vectors, dtype=np.float64))
        scaled: NDArray[np.float32] = (self.vectors / lengths[:, None]).astype(np.float32)
        return scaled


@dataclass(frozen=True, eq=False)
class VectorSample:
    """The rows of some blocks whose ids have the smallest hashes, as far as they were taken.

    A monoid: what is drawn in the end does not depend on how blocks are grouped and ordered. Each
    keeps those below a bound that is known beforehand, so that vectors are read once and not many
    are kept that are not needed.

    Attributes:
        pieces: The rows that were taken of each block.
    """

    pieces: tuple[SampledVectors, ...] = ()

    @classmethod
    def of(cls, rows: pa.Table, vectors: NDArray[Any], first: int, bound: int) -> Self:
        """Takes the rows of one block.

        Args:
            rows: The rows: ``id``, ``doc_id`` and ``text_hash``, perhaps ``source``, ``text`` and
                metadata.
            vectors: Their vectors, shape (n, d).
            first: Rows of the version before them.
            bound: Keys from which on rows are not taken, see ``key_bound``.
        """
        keys = keys_of(rows.column("id"))
        taken = np.arange(len(keys))
        if bound < _ALL_KEYS:
            taken = np.flatnonzero(keys < np.uint64(bound))
        if not len(taken):
            return cls()
        labels = label_columns(rows.schema)
        columns = ("id", "doc_id", "text_hash", "source", "text", *labels)
        names = rows.select([name for name in columns if name in rows.schema.names])
        names = names.take(pa.array(taken))
        piece = SampledVectors(
            keys[taken],
            first + taken,
            keys_of(names.column("doc_id")),
            hash64(names.column("text_hash")),
            vectors[taken].astype(np.float32),
            _words(names, "source"),
            _words(names, "text"),
            _cut(names.select(["id", *labels]), labels),
        )
        return cls((piece,))

    def __add__(self, other: Self) -> Self:
        """Returns the rows of both."""
        return type(self)(self.pieces + other.pieces)

    def below(self, bound: int) -> Self:
        """Returns what would have been taken with a bound, if that is no higher than it was."""
        if bound >= _ALL_KEYS:
            return self
        pieces = (
            piece.take(np.flatnonzero(piece.keys < np.uint64(bound))) for piece in self.pieces
        )
        return type(self)(tuple(piece for piece in pieces if len(piece)))

    def drawn(self) -> SampledVectors:
        """Returns the rows with the smallest keys, by ascending key."""
        if not self.pieces:
            return SampledVectors.none()
        keys = np.concatenate([piece.keys for piece in self.pieces])
        places = np.concatenate([piece.places for piece in self.pieces])
        order = np.lexsort((places, keys))[: self.size]
        return SampledVectors(
            keys[order],
            places[order],
            np.concatenate([piece.documents for piece in self.pieces])[order],
            np.concatenate([piece.texts for piece in self.pieces])[order],
            np.concatenate([piece.vectors for piece in self.pieces])[order],
            np.concatenate([piece.sources for piece in self.pieces])[order],
            np.concatenate([piece.beginnings for piece in self.pieces])[order],
            # A part that has very long values has none of them here.
            pa.concat_tables(
                [piece.columns for piece in self.pieces], promote_options="default"
            ).take(pa.array(order)),
        )

    @property
    def labels(self) -> list[str]:
        """The metadata columns that were read of all rows that were taken."""
        names = [piece.columns.column_names for piece in self.pieces]
        return [
            name for name in (names[0][1:] if names else []) if all(name in one for one in names)
        ]

    @property
    def size(self) -> int:
        """How many rows are drawn."""
        if not self.pieces:
            return 0
        width: int = self.pieces[0].vectors.shape[1]
        return min(self.taken, MOST_SAMPLED, _MOST_COMPONENTS // width)

    @property
    def taken(self) -> int:
        """How many rows were taken, perhaps some more than are drawn."""
        return sum(map(len, self.pieces))


def _words(rows: pa.Table, name: str) -> NDArray[np.object_]:
    """Returns the beginnings of a column's strings, None where there is no such column."""
    found = np.full(len(rows), None, object)
    if name in rows.schema.names:
        column = rows.column(name).cast(pa.string())
        found[:] = pc.utf8_slice_codeunits(column, 0, _BEGINNING).to_pylist()
    return found


def _cut(rows: pa.Table, labels: list[str]) -> pa.Table:
    """Returns rows whose labels are no longer than what is kept of one."""
    for name in labels:
        if pa.types.is_string(rows.schema.field(name).type):
            cut = pc.utf8_slice_codeunits(rows.column(name), 0, _LONGEST_VALUE)
            rows = rows.set_column(rows.schema.get_field_index(name), name, cut)
    return rows.replace_schema_metadata(None)


def numbered(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Numbers vectors such that those with the very same components have the same number.

    Args:
        vectors: Vectors, float32, shape (n, d).

    Returns:
        A number from 0 for each, int64, shape (n,).
    """
    # -0.0 equals 0.0, and has other bytes.
    whole = np.ascontiguousarray(vectors + np.float32(0))
    rows = whole.view(np.dtype((np.void, whole.shape[1] * whole.itemsize))).reshape(-1)
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)


def key_bound(rows: int) -> int:
    """Returns below which key some more rows lie than a sample of so many rows needs."""
    return _ALL_KEYS if rows <= MOST_SAMPLED else int(_SPARE * MOST_SAMPLED / rows * _ALL_KEYS)
