"""The blocks that flow through the pipeline, their Arrow schemas, and content-derived ids.

A block is rows plus what its commit must account for. Its rows are one Arrow record batch from
the first stage to the last, so no stage ever holds a row as Python objects.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

_Kind = TypeVar("_Kind", bound="Block")

DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("chunk_index", pa.int32(), nullable=False),
        pa.field("char_start", pa.int32(), nullable=False),
        pa.field("char_end", pa.int32(), nullable=False),
        pa.field("text_hash", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row_index", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
"""Columns of a DocumentBlock; the user's metadata columns follow them."""

PLACE_SCHEMA = pa.schema([("source", pa.string()), ("row_index", pa.int64()), ("line", pa.int64())])
"""Where documents stand in their files; a negative line counts from where a range begins."""

TOKEN_FIELDS = (
    pa.field("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    pa.field("n_tokens", pa.int32(), nullable=False),
    pa.field("truncated", pa.bool_(), nullable=False),
)
"""Columns that tokenizing adds: ids as the encoder gets them, and the count before truncation."""

SPANS_FIELD = pa.field(
    "spans",
    pa.list_(
        pa.field(
            "item",
            pa.struct(
                [
                    pa.field("char_start", pa.int32(), nullable=False),
                    pa.field("char_end", pa.int32(), nullable=False),
                    pa.field("token_start", pa.int32(), nullable=False),
                    pa.field("token_end", pa.int32(), nullable=False),
                ]
            ),
            nullable=False,
        )
    ),
    nullable=False,
)
"""Column that tokenizing adds where words or tokens get vectors: their characters in ``text``, and
their tokens' places in ``input_ids``, special tokens and prompt counted."""

TOKENS_FIELD = pa.field(
    "tokens", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False
)
"""Column of the words or tokens themselves, one for each span, where they are asked for."""

SECOND_FIELD = pa.field("\0second", pa.int32(), nullable=False)
"""Column that tokenizing pairs adds: the place of the first token that belongs to the second text.
No file has a column of that name."""

UNKNOWN_FIELD = pa.field("n_unknown", pa.int32(), nullable=False)
"""Column that tokenizing adds where unknown text is counted: those of the tokens in ``input_ids``
that stand for such text. No metadata column has its type."""

WINDOW = pa.field("\0window", pa.string())
"""Column of chunks that are read in a window of their document: its text in the row of the first
chunk that is read in it, null in those of the others behind it. No file has a column of that name.
"""

WINDOW_START = pa.field("\0window_start", pa.int32(), nullable=False)
"""Column beside it: the character of the document that the chunk's window begins with."""

WINDOW_SPAN = pa.schema(
    [
        pa.field("\0token_start", pa.int32(), nullable=False),
        pa.field("\0token_end", pa.int32(), nullable=False),
    ]
)
"""Columns that tokenizing adds to chunks that are read in windows: the places of a chunk's tokens
among those of its window, which the first row of the window alone has as ``input_ids``."""

LINE_FIELD = pa.field("line_in_range", pa.int64())
"""Column of a part: a record's row, element or line from 1, a line from where its range begins."""

EXCERPT = 200
"""Characters of a record that its reject shows."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An input record that could not be embedded.

    Attributes:
        source: The input file, relative to the plan's base.
        row_index: The record's place in it (see ``DOCUMENT_SCHEMA``): a byte offset for text and
            JSONL, a record or row number for CSV and Parquet.
        reason: A short snake_case word; reports count by it.
        detail: One line: what is wrong and what to do about it.
        doc_id: The record's id where it was known.
        excerpt: The record's first characters, for a person to recognise it.
        line: For a person to find it: the number of its first line in the file, from 1, or that of
            its row or element in Parquet and JSON arrays; None where that is not known.
        line_in_range: In the place of ``line`` where a plain file is read in ranges and only the
            lines of the range are known: the same, from 1 where the range begins.
    """

    source: str
    row_index: int
    reason: str
    detail: str
    doc_id: str | None = None
    excerpt: str = ""
    line: int | None = None
    line_in_range: int | None = None

    @classmethod
    def of_rows(cls, rows: pa.RecordBatch, reason: str, detail: str) -> tuple[Self, ...]:
        """Returns a reject for each document that some rows are of, in their order.

        Args:
            rows: Rows of ``DOCUMENT_SCHEMA``; of each document the first is shown.
            reason: See ``Reject``.
            detail: See ``Reject``.
        """
        names = ["source", "row_index", "doc_id", "text"]
        documents: dict[str, dict[str, Any]] = {}
        for row in rows.select(names).to_pylist():
            documents.setdefault(row["doc_id"], row)
        return tuple(
            cls(
                source=row["source"],
                row_index=row["row_index"],
                reason=reason,
                detail=detail,
                doc_id=row["doc_id"],
                excerpt=row["text"][:EXCERPT],
            )
            for row in documents.values()
        )


@dataclass(frozen=True, slots=True)
class LineCounts:
    """What the lines of text, JSONL, CSV and TSV files are; other formats have none.

    Attributes:
        lines: All lines.
        blank: Lines of white space.
        headers: Lines of headers.
        continued: Lines of a record behind its first.
        records: Documents and rejects that were read of them, counted by themselves.
    """

    lines: int = 0
    blank: int = 0
    headers: int = 0
    continued: int = 0
    records: int = 0

    def __add__(self, other: "LineCounts") -> "LineCounts":
        """Adds the lines of another piece."""
        return LineCounts(
            self.lines + other.lines,
            self.blank + other.blank,
            self.headers + other.headers,
            self.continued + other.continued,
            self.records + other.records,
        )

    @property
    def accounted(self) -> int:
        """Lines that a record begins with or that are known to be none; all should be."""
        return self.records + self.blank + self.headers + self.continued


@dataclass(frozen=True, slots=True)
class Nulled:
    """Metadata values of one column that do not fit its type and became null.

    Attributes:
        column: The column.
        count: How many values there are; their documents stay.
        example: The first of them, what was expected, and where it stands.
    """

    column: str
    count: int
    example: str


def add_nulled(values: Iterable[Nulled]) -> tuple[Nulled, ...]:
    """Adds up nulled values by column, in the order of the columns' names."""
    totals: dict[str, Nulled] = {}
    for one in values:
        before = totals.get(one.column)
        count = one.count + (before.count if before else 0)
        totals[one.column] = replace(before or one, count=count)
    return tuple(totals[column] for column in sorted(totals))


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a split: the unit of encoding, retry and commit.

    Attributes:
        split_id: The split it was read from.
        seq: Its place in the split, from 0.
        documents: Input records it accounts for: its documents plus its rejects.
        last: Whether the split ends with it. Every split has exactly one last block, which may
            have no rows.
        rejects: The records of this block that could not be embedded.
        rows: Its rows, as one record batch.
        documents_before: Input records that earlier blocks of the split account for.
        continues: Whether its first rows are of a document that an earlier block accounts for, as
            its chunks are too many for one block.
        nulled: Metadata values of its documents that became null, by column.
        lines: Of the last block, what the lines of each range of the split are.
        places: The lines of the documents that were read for it, as ``PLACE_SCHEMA``.
    """

    split_id: str
    seq: int
    documents: int
    last: bool
    rejects: tuple[Reject, ...]
    rows: pa.RecordBatch
    documents_before: int = 0
    continues: bool = False
    nulled: tuple[Nulled, ...] = ()
    lines: tuple[LineCounts, ...] = ()
    places: pa.RecordBatch | None = None

    @property
    def block_id(self) -> str:
        """``<split_id>-<seq>``, unique in a version."""
        return f"{self.split_id}-{self.seq:05d}"

    def with_rows(self, rows: pa.RecordBatch) -> Self:
        """Returns the block with other rows, its place and its accounts unchanged."""
        return replace(self, rows=rows)

    def into(
        self,
        kind: type[_Kind],
        rows: pa.RecordBatch,
        rejects: tuple[Reject, ...],
        **found: Any,
    ) -> _Kind:
        """Returns the block as its next stage leaves it, its place and its accounts unchanged.

        Args:
            kind: The class of that stage's blocks.
            rows: What is left of its rows, with the stage's columns.
            rejects: All of its rejects, those of the stage among them.
            found: What only that stage's blocks say, by the names of their fields.
        """
        header: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return kind(**{**header, "rows": rows, "rejects": rejects, **found})

    def numbered(self, reject: Reject) -> Reject:
        """Returns a reject of one of its documents with the number of its line."""
        if self.places is None:
            return reject
        source, row_index, lines = self.places.columns
        same = pc.and_(pc.equal(source, reject.source), pc.equal(row_index, reject.row_index))
        for line in lines.filter(same).slice(0, 1).to_pylist():
            return replace(reject, **({"line": line} if line > 0 else {"line_in_range": -line}))
        return reject

    def lines_in_range(self) -> pa.Array:
        """Returns for each row the line of its document, see ``LINE_FIELD``; null without lines."""
        if self.places is None or not self.rows.num_rows:
            return pa.nulls(self.rows.num_rows, LINE_FIELD.type)
        names = PLACE_SCHEMA.names[:2]
        lines = pc.abs(self.places.column("line"))
        if all(self.rows.column(name).equals(self.places.column(name)) for name in names):
            return lines
        # Rows are gone that later stages rejected.
        places = zip(*(self.places.column(name).to_pylist() for name in names), strict=True)
        known = dict(zip(places, lines.to_pylist(), strict=True))
        rows = zip(*(self.rows.column(name).to_pylist() for name in names), strict=True)
        return pa.array(map(known.get, rows), LINE_FIELD.type)

    def to_ipc(self) -> bytes:
        """Serializes the block as one Arrow IPC stream with the header in its schema metadata."""
        rows = self.rows.replace_schema_metadata({"embedkit.block": json.dumps(self._header())})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        data: bytes = sink.getvalue().to_pybytes()
        return data

    def _header(self) -> dict[str, Any]:
        return {
            "split_id": self.split_id,
            "seq": self.seq,
            "documents": self.documents,
            "last": self.last,
            "documents_before": self.documents_before,
            "continues": self.continues,
            "lines": [asdict(counts) for counts in self.lines],
            "rejects": [asdict(reject) for reject in self.rejects],
            "nulled": [asdict(nulled) for nulled in self.nulled],
            "places": None if self.places is None else self.places.to_pydict(),
        }

    @classmethod
    def from_ipc(cls, data: bytes) -> Self:
        """Reads back what ``to_ipc`` wrote."""
        with pa.ipc.open_stream(data) as reader:
            rows = reader.read_next_batch()
        header = cls._of_header(json.loads(rows.schema.metadata[b"embedkit.block"]))
        return cls(rows=rows.replace_schema_metadata(None), **header)

    @classmethod
    def _of_header(cls, header: dict[str, Any]) -> dict[str, Any]:
        places = header.get("places")
        return {
            **header,
            "rejects": tuple(Reject(**reject) for reject in header["rejects"]),
            "nulled": tuple(Nulled(**nulled) for nulled in header.get("nulled", ())),
            "lines": tuple(LineCounts(**counts) for counts in header.get("lines", ())),
            "places": None if places is None else pa.RecordBatch.from_pydict(places, PLACE_SCHEMA),
        }


class DocumentBlock(Block):
    """Rows of ``DOCUMENT_SCHEMA`` and the user's metadata columns."""


class TokenBlock(Block):
    """A DocumentBlock's rows plus ``TOKEN_FIELDS``."""


def counts_unknown(schema: pa.Schema) -> bool:
    """Tells whether rows have embedkit's own count of unknown tokens."""
    place = schema.get_field_index(UNKNOWN_FIELD.name)
    return place >= 0 and bool(schema.field(place).equals(UNKNOWN_FIELD))


def n_unknown(rows: pa.RecordBatch) -> int:
    """Returns how many tokens of some rows stand for unknown text; 0 where nobody counted."""
    if not counts_unknown(rows.schema):
        return 0
    return int(pc.sum(rows.column(UNKNOWN_FIELD.name)).as_py() or 0)
