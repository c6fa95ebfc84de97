"""What can be wrong with one part, found by reading all of it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE, readable, rows_at_once
from embedkit.dataset.schema import PartOptions, part_schema
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.records import SPANS_FIELD, TOKENS_FIELD
from embedkit.vectors import flat_list, stored_as, value_column, vectors_of

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a normalized vector may be; float16 storage needs half of it."""

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class PartFindings:
    """What reading a part has shown.

    Attributes:
        hashes: Hashes of its ids as ``id_hashes`` gives them, shape (rows, 2).
        faults: What is wrong with it.
    """

    hashes: NDArray[np.uint64]
    faults: tuple[str, ...]


class PartCheck:
    """Checks the parts of one version, which must all have the same columns.

    Args:
        dimension: Components of a vector.
        normalized: Whether vectors should have length 1.
    """

    def __init__(self, dimension: int, normalized: bool) -> None:
        self._dimension = dimension
        self._normalized = normalized
        self._schema: pa.Schema | None = None

    def read(self, part: Part, data: bytes, name: str) -> PartFindings:
        """Reads a part to its end.

        Args:
            part: What the manifest says of it.
            data: Its bytes.
            name: What an error calls it.

        Raises:
            IntegrityError: It cannot be read as Parquet, or has other columns.
        """
        faults = []
        if len(data) != part.size:
            faults.append(f"{len(data)} bytes, expected {part.size}")
        if sha256(data) != part.sha256:
            faults.append(f"its SHA-256 is not {part.sha256}, as the manifest says")
        hashes = [np.empty((0, 2), dtype=np.uint64)]
        vectors = _VectorFaults(self._normalized)
        with readable(name):
            file = pq.ParquetFile(pa.BufferReader(data))
            self._check_columns(file.schema_arrow, name)
            for batch in file.iter_batches(rows_at_once(file, ROWS_AT_ONCE)):
                hashes.append(id_hashes(batch.column("id")))
                # Codes are finite, and what they stand for has nearly the length of the vector.
                if not stored_as(file.schema_arrow).is_quantized:
                    vectors.add(vectors_of(batch).stacked)
                faults += _span_faults(batch)
        found = np.concatenate(hashes)
        if len(found) != part.rows:
            faults.append(f"{len(found)} rows, expected {part.rows}")
        return PartFindings(found, (*faults, *vectors.faults()))

    def _check_columns(self, schema: pa.Schema, name: str) -> None:
        if self._schema is None:
            column = value_column(schema)
            options = PartOptions(
                dimension=self._dimension,
                vector_dtype=stored_as(schema).dtype if column in schema.names else "float32",
                store_text="text" in schema.names,
                column=column,
            )
            self._schema = part_schema(schema, options)
        if not schema.equals(self._schema) or not self._is_stored_alike(schema):
            raise IntegrityError(
                f"{name}: its columns are not those of the version's other parts with vectors of "
                f"{self._dimension} components; {RESTORE}"
            )

    def _is_stored_alike(self, schema: pa.Schema) -> bool:
        """Whether codes of the part are made by what those of the first one are."""
        assert self._schema is not None, "of the first part"
        return stored_as(schema).is_as(stored_as(self._schema))


def _span_faults(rows: pa.RecordBatch) -> list[str]:
    """Says which rows do not have as many spans, and tokens, as vectors."""
    if value_column(rows.schema) != "embeddings":
        return []
    faults = []
    counts = pc.list_value_length(rows.column("embeddings"))
    for name in (SPANS_FIELD.name, TOKENS_FIELD.name):
        if name in rows.schema.names:
            other = pc.not_equal(counts, pc.list_value_length(rows.column(name)))
            if wrong := pc.sum(other).as_py():
                faults.append(f"{wrong} rows do not have as many {name} as vectors")
    if outside := _outside_of_text(rows):
        faults.append(f"{outside} spans lie outside of their row's text")
    return faults


def _outside_of_text(rows: pa.RecordBatch) -> int:
    """Counts spans that do not begin and end, in this order, within the text of their row."""
    spans, offsets = flat_list(rows.column(SPANS_FIELD.name))
    starts, ends = (spans.field(name).to_numpy() for name in ("char_start", "char_end"))
    first, last = (
        np.repeat(rows.column(name).to_numpy(), np.diff(offsets))
        for name in ("char_start", "char_end")
    )
    return int(((starts < first) | (ends < starts) | (ends > last)).sum())


class _VectorFaults:
    """Counts vectors that are not finite or not of length 1."""

    def __init__(self, normalized: bool) -> None:
        self._normalized = normalized
        self._not_finite = self._off = 0
        self._worst = 1.0

    def add(self, vectors: NDArray[np.float32]) -> None:
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        finite = np.isfinite(norms)
        self._not_finite += int((~finite).sum())
        off = finite & (np.abs(norms - 1) > NORM_TOLERANCE)
        if self._normalized and off.any():
            self._off += int(off.sum())
            worst = norms[off][np.argmax(np.abs(norms[off] - 1))]
            if abs(worst - 1) > abs(self._worst - 1):
                self._worst = float(worst)

    def faults(self) -> list[str]:
        faults = []
        if self._not_finite:
            faults.append(f"{self._not_finite} vectors are not finite")
        if self._off:
            faults.append(
                f"{self._off} vectors are not of length 1, the farthest has {self._worst:.6g}"
            )
        return faults
