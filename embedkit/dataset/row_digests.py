"""What tells a row of one version from the same row of another, in a few bytes each."""

from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE, readable
from embedkit.dataset.rows import read_columns
from embedkit.dataset.schema import metadata_columns, value_column
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.hashes.digests import hashes_of
from embedkit.vectors import vectors_of

DIGESTS = np.dtype(
    [(name, "<u8") for name in ("high", "low", "text", "place", "vector", "metadata", "number")]
)
"""What is known of a row: the 128-bit hash of its id in two halves; 64-bit hashes of its text, of
where it stands, of its vector's bytes (0 where these are not read) and of its metadata; and its
number among the rows of its version."""

_BYTES = 8
_TYPES = {
    "id": pa.string(), "text_hash": pa.string(), "source": pa.string(), "row_index": pa.int64(),
    "chunk_index": pa.int32(), "char_start": pa.int32(), "char_end": pa.int32(),
}  # fmt: skip
_NUMBERS = ("row_index", "chunk_index", "char_start", "char_end")


def row_digests(
    version: Version, part: Part, first: int, schema: pa.Schema, vectors: bool
) -> NDArray[np.void]:
    """Reads a part and returns the digests of its rows, in their order.

    Args:
        version: The version.
        part: One of its parts.
        first: The number of its first row.
        schema: The columns of its parts.
        vectors: Whether its vectors are read.

    Returns:
        Of ``DIGESTS``, shape (rows,).

    Raises:
        IntegrityError: The part is gone, damaged, or has other columns.
        StoreError: The store failed.
    """
    metadata = metadata_columns(schema)
    columns = [*_TYPES, *metadata, *([value_column(schema)] if vectors else [])]
    digests = np.empty(part.rows, DIGESTS)
    digests["number"] = np.arange(first, first + part.rows)
    start = 0
    name = f"{version.url}/{part.path}"
    for batch in read_columns(version, [part], columns):
        _check_columns(name, batch, schema)
        here = digests[start : start + batch.num_rows]
        ids = id_hashes(batch.column("id"))
        here["high"], here["low"] = ids[:, 0], ids[:, 1]
        here["text"] = _hashed(hashes_of(batch.column("text_hash").to_pylist(), _BYTES))
        here["place"] = _places(batch)
        here["vector"] = _vectors(name, batch) if vectors else 0
        here["metadata"] = _metadata(batch.select(metadata))
        start += batch.num_rows
    return digests


def _check_columns(name: str, batch: pa.RecordBatch, schema: pa.Schema) -> None:
    with readable(name):
        # A text that is not UTF-8 would be found by Python only, in a line without the file.
        batch.validate(full=True)
    for field in batch.schema:
        expected = _TYPES.get(field.name, schema.field(field.name).type)
        nulls = batch.column(field.name).null_count if field.name in _TYPES else 0
        if field.type != expected or nulls:
            raise IntegrityError(
                f"{name}: column {field.name!r} is {field.type} with {nulls} nulls, expected "
                f"{expected} without; {RESTORE}"
            )


def _places(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    numbers = [batch.column(name).to_numpy().astype(np.int64) for name in _NUMBERS]
    sources = _of_values("source", batch.column("source")).view(np.int64)
    return _of_bytes(np.column_stack([sources, *numbers]))


def _vectors(name: str, batch: pa.RecordBatch) -> NDArray[np.uint64]:
    try:
        vectors = vectors_of(batch)
    except IntegrityError as error:
        raise IntegrityError(f"{name}: {error}; {RESTORE}") from error
    if vectors.offsets is None:
        return _of_bytes(vectors.stacked)
    width = vectors.width * vectors.values.itemsize
    return _of_pieces(vectors.values, vectors.offsets.astype(np.int64) * width)


def _metadata(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    """Adds up the hashes of all values, so that the order of the columns does not matter."""
    total = np.zeros(batch.num_rows, np.uint64)
    for name in batch.schema.names:
        total += _of_values(name, batch.column(name))
    return total


def _of_values(name: str, column: pa.Array) -> NDArray[np.uint64]:
    """Hashes each value with its column's name; a null is 0, as if there were no such column."""
    kind = _exact_type(column.type)
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_nested(kind):
        places, values = None, column.to_pylist()
    else:
        # What repeats is hashed once.
        encoded = column.dictionary_encode()
        places, values = encoded.indices, encoded.dictionary.to_pylist()
    named = name.encode() + b"\0"
    hashes = _hashed(
        b"".join(
            bytes(_BYTES) if value is None else _hash(named + repr(value).encode())
            for value in values
        )
    )
    if places is None:
        return hashes
    missing = len(hashes)
    taken: NDArray[np.uint64] = np.append(hashes, np.uint64(0))[
        places.fill_null(missing).to_numpy(zero_copy_only=False)
    ]
    return taken


def _exact_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type whose values Python holds as they are: of times, which it rounds, numbers.

    Half floats, which Arrow makes no dictionaries of, become floats.
    """
    if pa.types.is_list(kind):
        return pa.list_(_exact_type(kind.value_type))
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_float16(kind):
        return pa.float32()
    return kind


def _of_bytes(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Hashes the bytes of each row of a matrix."""
    width = rows.shape[1] * rows.itemsize
    return _of_pieces(rows.reshape(-1), np.arange(len(rows) + 1) * width)


def _of_pieces(values: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes pieces of the bytes of values, each from where another ends to its own end."""
    data = values.view(np.uint8).data
    return _hashed(b"".join(_hash(data[a:b]) for a, b in pairwise(ends.tolist())))


def _hash(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=_BYTES).digest()


def _hashed(data: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(data, "<u8")
