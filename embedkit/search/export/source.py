"""The rows that are exported, a bounded number at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Manifest, Part, read_manifest
from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.schema import metadata_columns
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.lazy import lazy_property
from embedkit.search.exact import check_one_vector_per_row
from embedkit.vectors import Vectors, vectors_of, with_floats

ROWS_AT_ONCE = 4096

PLACE = ("doc_id", "chunk_index", "char_start", "char_end", "source", "row_index")
"""Columns that tell where a row is from, which go where a target has room for them."""


@dataclass(frozen=True, slots=True)
class VectorRows:
    """Some rows that stand one behind the other.

    Attributes:
        first: The number of the first among all rows of the version, in the order of its parts.
        ids: Their ids.
        vectors: Their vectors, shape (rows, dimension), float32 or float16 as they are stored;
            float32 where codes are.
        columns: All columns that were read, with these vectors.
    """

    first: int
    ids: pa.Array
    vectors: NDArray[np.floating]
    columns: pa.RecordBatch

    def float32(self) -> NDArray[np.float32]:
        """Returns the vectors in float32, shape (rows, dimension), as a view where they are."""
        return np.ascontiguousarray(self.vectors, np.float32)


@dataclass(frozen=True)
class Source:
    """A complete version with one vector per row, to be exported.

    Attributes:
        version: The version.
        manifest: Its manifest.
    """

    version: Version
    manifest: Manifest = field(repr=False)

    @classmethod
    def of(cls, version: Version) -> "Source":
        """Opens a version.

        Raises:
            ConfigError: It is not complete, has no rows, or has other than one vector per row.
            IntegrityError: Its manifest is damaged.
        """
        manifest = read_manifest(version)
        check_one_vector_per_row(manifest, "export")
        if not manifest.rows:
            raise ConfigError(f"{version.url}: has no rows, so there is nothing to export")
        return cls(version, manifest)

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return self.manifest.rows

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self.manifest.description["dimension"])

    @property
    def metric(self) -> str:
        """How vectors are compared."""
        return str(self.manifest.description["metric"])

    @lazy_property
    def schema(self) -> pa.Schema:
        """The columns of the rows, with floats in the place of codes."""
        return with_floats(schema_of(self.version, self.manifest.parts).empty_table()).schema

    @lazy_property
    def dtype(self) -> np.dtype[np.floating]:
        """What vectors are: float32 or float16."""
        half = pa.types.is_float16(self.schema.field("embedding").type.value_type)
        return np.dtype(np.float16 if half else np.float32)

    @property
    def contents(self) -> str:
        """Tells the rows and their order from those of all other versions, as hex."""
        return contents_of(self.manifest.parts)

    @lazy_property
    def metadata(self) -> list[str]:
        """Names of the user's columns."""
        return metadata_columns(self.schema)

    def payload(self) -> list[str]:
        """Returns the columns besides id and vector that a target with room for them gets."""
        text = ["text"] if "text" in self.schema.names else []
        return [*PLACE, *text, *self.metadata]

    def batches(
        self, columns: Sequence[str] = (), wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[VectorRows]:
        """Reads all rows in their order.

        Args:
            columns: What is read besides ids and vectors.
            wanted: For each row whether it is wanted; parts without any such row are not read.

        Raises:
            IntegrityError: A part is gone or damaged, or a vector is not finite.
            StoreError: The store failed.
        """
        names = ["id", "embedding", *columns]
        first = 0
        for part in self.manifest.parts:
            end = first + part.rows
            if wanted is not None and not wanted[first:end].any():
                first = end
                continue
            for batch in read_columns(self.version, [part], names, ROWS_AT_ONCE):
                batch = with_floats(batch)
                vectors = vectors_of(batch)
                ids = batch.column("id")
                self._check(part, ids, vectors)
                yield VectorRows(first, ids, vectors.matrix, batch)
                first += batch.num_rows

    def ids(self) -> Iterator[pa.Array]:
        """Reads the ids of all rows in their order.

        Raises:
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        for batch in read_columns(self.version, self.manifest.parts, ["id"]):
            yield batch.column("id")

    def _check(self, part: Part, ids: pa.Array, vectors: Vectors) -> None:
        if vectors.width != self.dimension:
            raise IntegrityError(
                f"{self.version.url}/{part.path}: vectors of {vectors.width} components, expected "
                f"{self.dimension}; run embedkit validate"
            )
        strange = np.flatnonzero(~vectors.finite)
        if len(strange):
            raise IntegrityError(
                f"{self.version.url}/{part.path}: the vector of {ids[strange[0]].as_py()!r} is not "
                "finite, and no index can hold it; run embedkit validate, then build the version "
                "anew"
            )


class HashSample:
    """Some rows with the smallest hashes of their ids: the same ones however rows are parted.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = np.uint64(np.iinfo(np.uint64).max)
        self._held: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float32]]] = []
        self._count = 0

    def add(self, rows: VectorRows) -> None:
        """Looks at some more rows."""
        hashes = id_hashes(rows.ids)[:, 0]
        near = np.flatnonzero(hashes <= self._limit)
        if not len(near):
            return
        self._held.append((hashes[near], near + rows.first, rows.float32()[near]))
        self._count += len(near)
        if self._count > 2 * self._most + ROWS_AT_ONCE:
            self._keep()

    def _keep(self) -> None:
        hashes, numbers, vectors = (np.concatenate(some) for some in zip(*self._held, strict=True))
        nearest = np.lexsort((numbers, hashes))[: self._most]
        self._held = [(hashes[nearest], numbers[nearest], vectors[nearest])]
        self._count = len(nearest)
        if self._count == self._most:
            self._limit = hashes[nearest[-1]]

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the numbers of the rows, and their vectors, shape (rows, dimension)."""
        self._keep()
        _, numbers, vectors = self._held[0]
        return numbers, vectors


def contents_of(parts: Sequence[Part]) -> str:
    """Tells rows in their order from all others, as hex.

    Args:
        parts: The parts that hold them.
    """
    return sha256("\n".join(f"{part.sha256} {part.rows}" for part in parts).encode())
