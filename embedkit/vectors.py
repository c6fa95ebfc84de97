"""Flat values of rows and their Arrow columns: token ids, and vectors, one per row or many."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.config import reserved_columns
from embedkit.errors import ConfigError, IntegrityError
from embedkit.formats.reused import Reused
from embedkit.formats.storage_loss import StorageLoss
from embedkit.quantization import StoredAs
from embedkit.records import SPANS_FIELD, UNKNOWN_FIELD, Block

_TYPES = {
    "float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "uint8": pa.uint8()
}  # fmt: skip

ValueColumn = Literal["embedding", "embeddings", "score", "scores"]
"""The column of what was computed of a row: its vector, its vectors, its score or its scores."""

VALUE_COLUMNS: Final[tuple[ValueColumn, ...]] = ("embedding", "embeddings", "score", "scores")

PART_SPANS_FIELD = pa.field(
    "spans",
    pa.list_(
        pa.field(
            "item",
            pa.struct(
                [
                    pa.field("char_start", pa.int32(), nullable=False),
                    pa.field("char_end", pa.int32(), nullable=False),
                ]
            ),
            nullable=False,
        )
    ),
    nullable=False,
)
"""Beside ``embeddings``: where in the document's text each of them is, in characters."""


def value_column(schema: pa.Schema) -> ValueColumn:
    """Returns the name of the column of what was computed of each row.

    Args:
        schema: Schema of a part, or of an EmbeddingBlock's rows. A column ``embedding`` is always
            that; the other names are, where there is none of that name.
    """
    return next((name for name in VALUE_COLUMNS if name in schema.names), "embedding")


def vector_type(width: int, dtype: str = "float32", many: bool = False) -> pa.DataType:
    """Returns the Arrow type of a column of vectors.

    Args:
        width: Numbers that are stored of a vector, which are its components unless they are bits.
        dtype: ``float32``, ``float16``, ``int8`` or ``uint8``.
        many: Whether a row has any number of vectors, and not exactly one.
    """
    one = pa.list_(pa.field("item", _TYPES[dtype], nullable=False), width)
    return pa.list_(pa.field("item", one, nullable=False)) if many else one


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The vectors of n rows: one vector per row, or many.

    Attributes:
        values: The components of all vectors one after the other, float32 or float16, shape
            (vectors * width,); or the codes that are stored of them, int8 or uint8.
        width: Components of a vector.
        offsets: Row i has the vectors from ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape
            (n + 1,). None where every row has exactly one.

    Raises:
        IntegrityError: These three do not fit together.
    """

    values: NDArray[Any]
    width: int
    offsets: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        if fault := self._fault():
            raise IntegrityError(f"vectors: {fault}; this is a fault in the step that made them")

    def _fault(self) -> str | None:
        values, width, offsets = self.values, self.width, self.offsets
        if width < 1:
            return f"their width is {width}, expected at least 1"
        if str(values.dtype) not in _TYPES:
            return f"they are {values.dtype}, expected {', '.join(_TYPES)}"
        if values.ndim != 1 or len(values) % width:
            return f"shape {values.shape} is no whole number of vectors of width {width}"
        if offsets is None:
            return None
        if offsets.dtype != np.int32 or offsets.ndim != 1 or not len(offsets):
            return f"offsets are {offsets.dtype} of shape {offsets.shape}, expected int32 (n + 1,)"
        count = len(values) // width
        if offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
            return f"offsets do not rise from 0 to the {count} vectors there are"
        return None

    def __len__(self) -> int:
        """Returns the number of rows."""
        if self.offsets is None:
            return len(self.values) // self.width
        return len(self.offsets) - 1

    @property
    def stacked(self) -> NDArray[Any]:
        """All vectors in the order of the rows, as a view, shape (vectors, width)."""
        return self.values.reshape(-1, self.width)

    @property
    def matrix(self) -> NDArray[Any]:
        """The one vector of every row, as a view, shape (rows, width).

        Raises:
            IntegrityError: Rows have any number of vectors.
        """
        if self.offsets is not None:
            raise IntegrityError(
                "vectors: these rows have any number of them, but what is asked for knows only "
                "rows of one vector"
            )
        return self.stacked

    @property
    def counts(self) -> NDArray[np.int32]:
        """Vectors per row, int32, shape (n,)."""
        if self.offsets is None:
            return np.ones(len(self), dtype=np.int32)
        return np.diff(self.offsets)

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column that ``to_arrow`` returns."""
        return vector_type(self.width, str(self.values.dtype), self.offsets is not None)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether all vectors of each row are finite, shape (rows,)."""
        # One number per vector takes no memory, and a sum in float64 cannot overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            finite: NDArray[np.bool_] = np.isfinite(self.stacked.sum(axis=1, dtype=np.float32))
            doubtful = np.flatnonzero(~finite)
            finite[doubtful] = np.isfinite(self.stacked[doubtful].sum(axis=1, dtype=np.float64))
        if self.offsets is None:
            return finite
        spoiled = np.append(0, np.cumsum(~finite))
        of_rows: NDArray[np.bool_] = np.diff(spoiled[self.offsets]) == 0
        return of_rows

    def of_row(self, row: int) -> NDArray[Any]:
        """Returns the vectors of a row as a view, shape (its vectors, width)."""
        if self.offsets is None:
            return self.stacked[row : row + 1]
        return self.stacked[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[np.intp]) -> "Vectors":
        """Returns the given rows, in the given order."""
        if self.offsets is None:
            return Vectors(self.stacked[rows].reshape(-1), self.width)
        places, offsets = places_of_rows(self.offsets, rows)
        return Vectors(self.stacked[places].reshape(-1), self.width, offsets)

    def to_arrow(self) -> pa.Array:
        """Returns the vectors as a column, without a copy of contiguous values.

        A column of fixed-size lists where every row has one vector, else of lists of them.
        """
        one = vector_type(self.width, str(self.values.dtype))
        column = pa.FixedSizeListArray.from_arrays(pa.array(self.values), type=one)
        if self.offsets is None:
            return column
        return pa.ListArray.from_arrays(pa.array(self.offsets), column, type=self.arrow_type)

    @classmethod
    def from_arrow(cls, column: pa.Array | pa.ChunkedArray) -> "Vectors":
        """Reads a column of vectors, as a view unless it has several chunks.

        Args:
            column: Fixed-size lists, or lists of them, of float32, float16, int8 or uint8.

        Raises:
            IntegrityError: It has another type, or a null.
        """
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        offsets = None
        if pa.types.is_list(column.type):
            column, offsets = flat_list(column)
        if not pa.types.is_fixed_size_list(column.type):
            raise IntegrityError(
                f"vectors: a column of {column.type}, expected fixed-size lists of float32 or "
                "float16, or lists of them"
            )
        width = column.type.list_size
        # to_numpy imports pandas where it is installed, which takes 0.3 s of a search.
        return cls(np.from_dlpack(_flat(column)), width, offsets)

    @classmethod
    def from_matrix(cls, matrix: NDArray[Any]) -> "Vectors":
        """Takes one vector per row, shape (rows, width)."""
        return cls(matrix.reshape(-1), matrix.shape[1])

    @classmethod
    def joined(cls, pieces: Sequence[tuple[NDArray[np.intp], "Vectors"]]) -> "Vectors":
        """Puts rows together that lie in several pieces.

        Args:
            pieces: For each the numbers that its rows have among all, and their vectors. Every row
                is in exactly one piece, and all have one width and type, and one vector per row or
                many.
        """
        first = pieces[0][1]
        rows = sum(len(numbers) for numbers, _ in pieces)
        if first.offsets is None:
            stacked = np.empty((rows, first.width), first.values.dtype)
            for numbers, vectors in pieces:
                stacked[numbers] = vectors.matrix
            return cls.from_matrix(stacked)
        counts = np.zeros(rows, dtype=np.int32)
        for numbers, vectors in pieces:
            counts[numbers] = vectors.counts
        offsets = np.zeros(rows + 1, dtype=np.int32)
        np.cumsum(counts, out=offsets[1:])
        stacked = np.empty((int(offsets[-1]), first.width), first.values.dtype)
        for numbers, vectors in pieces:
            stacked[places_of_rows(offsets, numbers)[0]] = vectors.stacked
        return cls(stacked.reshape(-1), first.width, offsets)

    @classmethod
    def from_rows(
        cls, rows: Iterable[NDArray[Any]], width: int, dtype: str = "float32"
    ) -> "Vectors":
        """Takes any number of vectors per row.

        Args:
            rows: The vectors of each row, shape (its vectors, width).
            width: Components of a vector.
            dtype: What all of them are: ``float32`` or ``float16``.
        """
        several = list(rows)
        offsets = np.zeros(len(several) + 1, dtype=np.int32)
        np.cumsum([len(vectors) for vectors in several], out=offsets[1:])
        values = np.empty(int(offsets[-1]) * width, dtype)
        if len(values):
            flat = [vectors.reshape(-1) for vectors in several]
            np.concatenate(flat, out=values, casting="no")
        return cls(values, width, offsets)


@dataclass(frozen=True)
class EmbeddingBlock(Block):
    """A TokenBlock's rows with what was computed of them in the place of ``input_ids``.

    That is ``embedding``, or another one of ``VALUE_COLUMNS``. Where it is ``embeddings``, the
    column ``spans`` says of what each is, as ``PART_SPANS_FIELD``, and ``tokens`` may, as
    ``TOKENS_FIELD``.

    Attributes:
        tokens_encoded: Tokens that were sent to encoders for it: those of equal texts once, and
            those of documents that became rejects for their vectors as well.
        reused: How its rows stand to those of an earlier version; None where they were not
            compared with any.
        loss: How far the codes that are stored are from the vectors they were made of; None where
            floats are stored.
    """

    tokens_encoded: int = 0
    reused: Reused | None = None
    loss: StorageLoss | None = None

    def _header(self) -> dict[str, Any]:
        reused = None if self.reused is None else self.reused.to_dict()
        loss = None if self.loss is None else self.loss.to_dict()
        own = {"tokens_encoded": self.tokens_encoded, "reused": reused, "loss": loss}
        return {**super()._header(), **own}

    @classmethod
    def _of_header(cls, header: dict[str, Any]) -> dict[str, Any]:
        reused = header.get("reused")
        found = None if reused is None else Reused.of_dict(reused)
        loss = header.get("loss")
        lost = None if loss is None else StorageLoss.of_dict(loss)
        return {**super()._of_header(header), "reused": found, "loss": lost}

    @property
    def vectors(self) -> Vectors:
        """The vectors of its rows as floats, see ``vectors_of``."""
        return vectors_of(self.rows)


def metadata_columns(schema: pa.Schema) -> list[str]:
    """Returns the names of the user's metadata columns among those of rows, in their order."""
    reserved = reserved_columns(value_column(schema))
    return [
        field.name
        for field in schema
        if field.name not in reserved and not field.equals(UNKNOWN_FIELD)
    ]


def label_columns(schema: pa.Schema) -> list[str]:
    """Returns the metadata columns whose values may be few: all but real numbers and lists."""
    kinds = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer)
    return [
        name
        for name in metadata_columns(schema)
        if any(is_kind(schema.field(name).type) for is_kind in kinds)
    ]


def vectors_of(rows: pa.RecordBatch | pa.Table) -> Vectors:
    """Takes what was computed of rows as floats; scores are vectors of one component.

    Floats are a view. Codes become float32, by the formulas of ``embedkit.quantization`` and what
    the column's own metadata says: of rows that were read with another tool, keep that.

        >>> from embedkit import open_version, vectors_of
        >>> rows = next(iter(open_version("embeddings").to_batches()))
        >>> vectors_of(rows).matrix.shape
        (3, 8)

    Args:
        rows: Rows of a part, or of an EmbeddingBlock, that have their ``value_column``.

    Raises:
        ConfigError: They are no rows of Arrow's.
        IntegrityError: It is not there, has another type, or a null, or codes of which nothing is
            said.
    """
    stored = stored_of(rows)
    how = stored_as(rows.schema)
    if not how.is_quantized:
        return stored
    if stored.width != how.width:
        raise IntegrityError(
            f"vectors: {stored.width} codes of each, but the column's metadata says {how.width}"
        )
    return Vectors(how.floats(stored.stacked).reshape(-1), how.dimension, stored.offsets)


def stored_of(rows: pa.RecordBatch | pa.Table) -> Vectors:
    """Takes what was computed of rows as it is stored, as a view; see ``vectors_of``.

    Raises:
        ConfigError: They are no rows of Arrow's.
        IntegrityError: It is not there, has another type, or a null.
    """
    if not isinstance(rows, pa.RecordBatch | pa.Table):
        raise ConfigError(
            f"rows: expected rows as Arrow has them, got {type(rows).__name__}; read them by "
            "open_version(...).to_batches()"
        )
    name = value_column(rows.schema)
    if rows.schema.get_field_index(name) < 0:
        found = "two columns" if name in rows.schema.names else "no column"
        raise IntegrityError(f"vectors: the rows have {found} {name}; read one of it")
    column = rows.column(name)
    if name == "score":
        one = pa.list_(pa.field("item", column.type, nullable=False), 1)
        flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        column = pa.FixedSizeListArray.from_arrays(flat, type=one)
    return Vectors.from_arrow(column)


def stored_as(schema: pa.Schema) -> StoredAs:
    """Returns how the vectors of rows are stored, by the type and the metadata of their column.

    Args:
        schema: Schema of a part, or of an EmbeddingBlock's rows, with the metadata of its fields.

    Raises:
        IntegrityError: There are codes of which nothing is said, or something else.
    """
    field = schema.field(value_column(schema))
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    width = kind.list_size if pa.types.is_fixed_size_list(kind) else 1
    number = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    try:
        found = StoredAs.of_metadata(field.metadata or {})
    except ValueError as error:
        raise IntegrityError(
            f"vectors: the metadata of column {field.name!r} is damaged ({error})"
        ) from error
    if found is not None:
        return found
    if pa.types.is_integer(number):
        raise IntegrityError(
            f"vectors: column {field.name!r} holds codes of {number}, and its metadata does not "
            "say of what; read the parts themselves, with the metadata of their fields"
        )
    return StoredAs("float16" if pa.types.is_float16(number) else "float32", width)


Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


def with_floats(rows: Rows) -> Rows:
    """Returns rows with floats in the place of codes, for whoever knows nothing of these."""
    if not stored_as(rows.schema).is_quantized:
        return rows
    name = value_column(rows.schema)
    column = vectors_of(rows).to_arrow()
    field = pa.field(name, column.type, nullable=False)
    return rows.set_column(rows.schema.get_field_index(name), field, column)


@dataclass(frozen=True, slots=True)
class TokenSpans:
    """Spans of tokens within n rows, of each of which a vector is wanted.

    Spans of a row may overlap, and there may be none.

    Attributes:
        starts: Place of each span's first token in its row, from 0, int32, shape (spans,).
        ends: Place behind each span's last token, int32, shape (spans,); above its start.
        offsets: Row i has the spans from ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape
            (n + 1,).
    """

    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __len__(self) -> int:
        """Returns the number of spans."""
        return len(self.starts)

    def take(self, rows: NDArray[np.intp]) -> "TokenSpans":
        """Returns those of the given rows, in the given order."""
        places, offsets = places_of_rows(self.offsets, rows)
        return TokenSpans(self.starts[places], self.ends[places], offsets)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Token ids of n rows without padding.

    Attributes:
        input_ids: All ids one after the other, int32, shape (tokens,).
        offsets: Row i is ``input_ids[offsets[i]:offsets[i + 1]]``, int32, shape (n + 1,).
        spans: What vectors are wanted of; one of each whole row where None.
        seconds: Of pairs of texts, the place in its row of the first token that belongs to the
            second text, int32, shape (n,); None where rows are single texts.
    """

    input_ids: NDArray[np.int32]
    offsets: NDArray[np.int32]
    spans: TokenSpans | None = None
    seconds: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Token count per row, int32, shape (n,)."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.intp]) -> "TokenBatch":
        """Returns the given rows, in the given order, as a batch of their own."""
        places, offsets = places_of_rows(self.offsets, rows)
        return TokenBatch(
            self.input_ids[places],
            offsets,
            None if self.spans is None else self.spans.take(rows),
            None if self.seconds is None else self.seconds[rows],
        )

    def arrays(self) -> tuple[NDArray[np.int32] | None, ...]:
        """Returns all of its arrays, for ``of_arrays`` in another process; two of plain rows."""
        spans = self.spans
        of_spans = (None,) * 3 if spans is None else (spans.starts, spans.ends, spans.offsets)
        if self.seconds is None and spans is None:
            return self.input_ids, self.offsets
        return self.input_ids, self.offsets, self.seconds, *of_spans

    @classmethod
    def of_arrays(
        cls,
        input_ids: NDArray[np.int32],
        offsets: NDArray[np.int32],
        seconds: NDArray[np.int32] | None = None,
        *of_spans: NDArray[np.int32] | None,
    ) -> "TokenBatch":
        """Takes what ``arrays`` returned."""
        starts, ends, rows = of_spans or (None,) * 3
        if starts is None or ends is None or rows is None:
            return cls(input_ids, offsets, None, seconds)
        return cls(input_ids, offsets, TokenSpans(starts, ends, rows), seconds)

    @classmethod
    def from_arrow(cls, column: pa.ListArray) -> "TokenBatch":
        """Takes a block's column ``input_ids``, as a view."""
        ids, offsets = flat_list(column)
        return cls(ids.to_numpy(zero_copy_only=True), offsets)

    @classmethod
    def from_lists(cls, rows: Iterable[Sequence[int]]) -> "TokenBatch":
        """Builds a batch from one sequence of ids per row."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
        np.cumsum([len(array) for array in arrays], out=offsets[1:])
        ids = np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32)
        return cls(ids, offsets)


def spans_of(rows: pa.RecordBatch) -> TokenSpans:
    """Takes the tokens of the column ``spans`` that a TokenBlock's rows have.

    Args:
        rows: Rows with ``SPANS_FIELD``.

    Raises:
        IntegrityError: A row is null.
    """
    spans, offsets = flat_list(rows.column(SPANS_FIELD.name))
    starts, ends = (spans.field(name).to_numpy() for name in ("token_start", "token_end"))
    return TokenSpans(starts, ends, offsets)


def flat_list(column: pa.ListArray) -> tuple[pa.Array, NDArray[np.int32]]:
    """Takes a column of lists apart, without a copy.

    Returns:
        The items of all rows one after the other, and for each row where its own begin and end
        among them, int32, shape (rows + 1,).

    Raises:
        IntegrityError: A row is null.
    """
    items = _flat(column)
    offsets: NDArray[np.int32] = column.offsets.to_numpy()
    return items, offsets - offsets[0]


def places_of_rows(
    offsets: NDArray[np.int32], rows: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Finds the items of some rows among those of all rows.

    Args:
        offsets: Row i has the items from ``offsets[i]`` up to ``offsets[i + 1]``.
        rows: Numbers of the rows, in any order.

    Returns:
        The places of their items, shape (items,), and their offsets among these.
    """
    lengths = np.diff(offsets)[rows]
    taken = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum(lengths, out=taken[1:])
    return np.arange(taken[-1]) + np.repeat(offsets[:-1][rows] - taken[:-1], lengths), taken


def _flat(column: pa.Array) -> pa.Array:
    """Returns the items of a list column, one after the other; they and the lists have no nulls."""
    # ``flatten`` minds where a slice begins, but passes over null rows in silence.
    items = column.flatten()
    if column.null_count or items.null_count:
        raise IntegrityError(
            f"vectors: a null in a column of {column.type}, where every row has a value"
        )
    return items
