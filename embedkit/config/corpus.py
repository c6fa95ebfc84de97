"""Which records are read, and how they become rows."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from embedkit.config.settings import (
    MIB,
    RESERVED_COLUMNS,
    Settings,
    comma_separated,
    reserved_columns,
)


class RecordConfig(Settings):
    """How records become rows, wherever they come from."""

    text_column: str = Field("text", description="Column that holds the text.")
    text_template: str | None = Field(
        None,
        description="Joins several columns into the text, such as '{title}. {body}'; {title?} is "
        "one that files need not have.",
    )
    query_column: str | None = Field(
        None,
        description="Column that holds the query of each text: rows are pairs then, and a "
        "cross-encoder gives them scores in the place of vectors.",
    )
    candidates_column: str | None = Field(
        None,
        description="Column that holds a list of texts for each query, in the place of one text: "
        "each of them gets a row.",
    )
    id_column: str | None = Field(
        None, description="Column that holds a unique id; without it ids come from the place."
    )
    metadata_columns: tuple[str, ...] = Field(
        (),
        description="Columns to carry along, as NAME or NAME:TYPE (string, int64, float64, bool).",
    )
    max_record_bytes: PositiveInt = Field(
        16 * MIB, description="A longer record is rejected instead of read into memory."
    )
    block_rows: PositiveInt = Field(
        8_192, description="Most rows of a block, the unit of encoding, retry and commit."
    )
    block_bytes: PositiveInt = Field(
        8 * MIB,
        description="Most bytes of text in a block; fewer where words or tokens get vectors, "
        "unless another value is given.",
    )
    chunk: Literal[
        "none", "tokens", "sentences", "paragraphs", "stable-sentences", "stable-paragraphs"
    ] = Field(
        "none",
        description="How documents are cut into chunks before they are embedded; the stable kinds "
        "cut at places that an edit elsewhere in the document does not move.",
    )
    chunk_tokens: PositiveInt | None = Field(
        None, description="Most tokens of a chunk; the model's maximum unless given."
    )
    chunk_overlap: Annotated[int, Field(ge=0)] = Field(
        0, description="Tokens that a chunk shares with the one before it."
    )
    late_chunking: bool = Field(
        False,
        description="Encode documents whole, in overlapping windows where they are longer than "
        "the model's maximum, and pool the chunks from that, so that each knows its context.",
    )

    @property
    def carried_columns(self) -> tuple[str, ...]:
        """Columns that a reader carries along: those of metadata, and the query's."""
        query = self.query_column
        if query is None:
            return self.metadata_columns
        others = (name for name in self.metadata_columns if name not in (query, f"{query}:string"))
        return (*others, f"{query}:string")

    @property
    def has_many_rows(self) -> bool:
        """Whether a record may become several rows."""
        return self.chunk != "none" or self.candidates_column is not None

    @property
    def keeps_query(self) -> bool:
        """Whether the query is a column of metadata as well."""
        return len(self.carried_columns) == len(self.metadata_columns)

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        query = self.query_column
        if query is None:
            return self
        if query in reserved_columns("score") or not query:
            raise ValueError(
                f"query_column: {query!r} is a column of embedkit's own; rename it in the input"
            )
        if query == self.text_column and self.text_template is None:
            raise ValueError(f"query_column: {query!r} is the text's column already")
        if any(name.rpartition(":")[0] == query for name in self.carried_columns[:-1]):
            raise ValueError(f"metadata_columns: a query is text; give {query} without a type")
        return self

    @model_validator(mode="after")
    def _columns(self) -> Self:
        if not self.metadata_columns:
            return self
        # A name may hold a colon itself, as in 'dc:title:string'.
        names = [name.rpartition(":")[0] or name for name in self.metadata_columns]
        taken = sorted(RESERVED_COLUMNS.intersection(names))
        if taken:
            raise ValueError(
                f"metadata_columns: {', '.join(taken)} is a column of embedkit's own; "
                "rename it in the input or leave it out"
            )
        if len(set(names)) != len(names):
            raise ValueError("metadata_columns: a name is given twice")
        return self


_CHARACTERS = {"tab": "\t", "\\t": "\t", "space": " ", "\\\\": "\\"}


def _character(value: object) -> object:
    """Reads one character, ``tab`` or ``none``; none at all is the empty string."""
    if value is None or value == "none":
        return value and ""
    character = _CHARACTERS.get(str(value), str(value))
    if len(character) > 1 or character in ("\n", "\r", "\0"):
        raise ValueError("expected one character, tab, or none")
    return character


def _encoding(name: str) -> str:
    if name != "auto":
        try:
            "".encode(name)
            codecs.getincrementaldecoder(name)("backslashreplace").decode(b"-", final=True)
        except (LookupError, TypeError, UnicodeError, ValueError) as error:
            raise ValueError("no encoding of text; expected one such as utf-16") from error
    return name


class CorpusConfig(RecordConfig):
    """Which records to read, and how they become rows."""

    inputs: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Input files, directories or globs; local paths or any fsspec URL."
    )
    format: Literal["auto", "text", "jsonl", "json", "csv", "tsv", "parquet"] = Field(
        "auto", description="Input format; auto tells it from each file's suffix."
    )
    compression: Literal["auto", "none", "gzip", "zstd", "bz2", "xz"] = Field(
        "auto", description="Compression of the inputs; auto tells it from each file's suffix."
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        "auto",
        description="Encoding of text inputs, such as utf-16 or latin-1; auto takes UTF-8, or what "
        "a file's byte order mark says.",
    )
    text_unit: Literal["line", "paragraph", "file"] = Field(
        "line", description="What one document of a plain text file is."
    )
    delimiter: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character between the fields of CSV and TSV files; a comma, or a tab in TSV "
        "files, unless given.",
    )
    quote: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character that a field is quoted with, or none; a double quote in CSV files "
        "and none in TSV files unless given.",
    )
    escape: Annotated[str | None, BeforeValidator(_character)] = Field(
        None,
        description="Character that takes the next one literally in CSV and TSV files, such as a "
        "backslash; none unless given.",
    )
    columns: Annotated[tuple[str, ...], BeforeValidator(comma_separated)] = Field(
        (),
        description="Names of the columns of CSV and TSV files that have no header line, as a,b,c.",
    )
    max_record_lines: PositiveInt = Field(
        1000,
        description="A CSV record over more lines is rejected as one whose quote is never closed.",
    )
    base: str | None = Field(
        None,
        description="Directory that sources and derived ids are relative to; the inputs' common "
        "parent unless given.",
    )
    follow_symlinks: bool = Field(
        False,
        description="Follow symbolic links that lead out of the directories that are named.",
    )
    max_decompressed_bytes: PositiveInt = Field(
        256 * 1024 * MIB, description="A compressed file that unpacks to more stops the run."
    )
    split_bytes: PositiveInt = Field(
        32 * MIB, description="Size of the ranges that workers take, in bytes as stored."
    )
    limit: PositiveInt | None = Field(
        None,
        description="Embed the first N documents only, as a trial: a version of its own that "
        "never becomes the latest.",
    )

    @model_validator(mode="after")
    def _dialect(self) -> Self:
        if self.delimiter == "":
            raise ValueError("delimiter: fields need a character between them")
        used = [one for one in (self.delimiter, self.quote, self.escape) if one]
        if len(set(used)) != len(used):
            raise ValueError("delimiter, quote and escape: give three different characters")
        if len(set(self.columns)) != len(self.columns) or "" in self.columns:
            raise ValueError("columns: give every column a name of its own")
        return self
