"""The columns of a part, and what may vary in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from embedkit.quantization import QUANTIZED, StoredAs
from embedkit.records import LINE_FIELD, TOKENS_FIELD, UNKNOWN_FIELD, counts_unknown
from embedkit.vectors import (
    PART_SPANS_FIELD,
    ValueColumn,
    metadata_columns,
    stored_as,
    value_column,
    vector_type,
)

__all__ = ["FORMAT", "PartOptions", "metadata_columns", "part_schema", "value_column"]

FORMAT: Final = "1"
"""Version of the layout and schema, as parts and manifests carry it."""


@dataclass(frozen=True)
class PartOptions:
    """How the parts of a version are written.

    Attributes:
        dimension: Components of a vector.
        vector_dtype: How vectors are stored: ``float32``, ``float16``, ``int8``, ``uint8`` or
            ``binary``.
        store_text: Whether the text stands beside its vector.
        excerpts: Whether the beginnings of texts stand in rejects and statistics.
        file_metadata: Names and values that every part carries in its footer:
            ``embedkit.fingerprint``, ``embedkit.model`` and so on.
        column: The column of what was computed: ``embedding`` for one vector per row,
            ``embeddings`` for any number, ``score`` or ``scores``.
    """

    dimension: int
    vector_dtype: str = "float32"
    store_text: bool = False
    excerpts: bool = False
    file_metadata: Mapping[str, str] = field(default_factory=dict)
    column: ValueColumn = "embedding"

    @property
    def vector_type(self) -> pa.DataType:
        """The Arrow type of the column of what was computed."""
        stored = StoredAs(self.vector_dtype, self.dimension)
        one = vector_type(stored.width, stored.number, many=self.column == "embeddings")
        return one.value_type if self.column == "score" else one


def part_schema(rows: pa.Schema, options: PartOptions) -> pa.Schema:
    """Returns the schema of a part for a block's rows.

    Args:
        rows: Schema of an EmbeddingBlock's rows; its columns that are not embedkit's own are the
            user's metadata and come last.
        options: How parts are written.
    """
    metadata = {
        **options.file_metadata,
        "embedkit.format": FORMAT,
        "embedkit.dimension": str(options.dimension),
        "embedkit.vector_dtype": options.vector_dtype,
    }
    fields = [
        pa.field("id", pa.string(), nullable=False),
        _field_of_vectors(rows, options),
        *_of_many(rows, options),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("chunk_index", pa.int32(), nullable=False),
        pa.field("char_start", pa.int32(), nullable=False),
        pa.field("char_end", pa.int32(), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        *([UNKNOWN_FIELD] if counts_unknown(rows) else []),
        pa.field("text_hash", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_index", pa.int64(), nullable=False),
        LINE_FIELD,
    ]
    if options.store_text:
        fields.append(pa.field("text", pa.string(), nullable=False))
    fields += [rows.field(name) for name in metadata_columns(rows)]
    return pa.schema(fields, metadata=dict(sorted(metadata.items())))


def _field_of_vectors(rows: pa.Schema, options: PartOptions) -> pa.Field:
    """Returns the column of vectors, which says of codes how they become floats again."""
    said = None
    if options.vector_dtype in QUANTIZED and options.column in rows.names:
        said = stored_as(rows).to_metadata()
    return pa.field(options.column, options.vector_type, nullable=False, metadata=said)


def _of_many(rows: pa.Schema, options: PartOptions) -> list[pa.Field]:
    """Returns the columns that say what each of a row's vectors is of."""
    if options.column != "embeddings":
        return []
    return [PART_SPANS_FIELD, *([TOKENS_FIELD] if TOKENS_FIELD.name in rows.names else [])]
