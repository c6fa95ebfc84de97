"""Tells how the fields of a CSV or TSV file are separated, and checks that against its header."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import nearest
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

_DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
"""The common ones, and how the command line takes them."""


@dataclass(frozen=True)
class Dialect:
    """What separates, quotes and escapes the fields of a file.

    Attributes:
        delimiter: Stands between two fields.
        quote: Stands around a field that may hold delimiters and line ends; None where there are
            no quotes, so that every line is a record.
        escape: Takes the character behind it literally, or None.
    """

    delimiter: str
    quote: str | None
    escape: str | None

    @classmethod
    def of(cls, file: FileRange, config: CorpusConfig) -> "Dialect":
        """Takes what the configuration says, and for the rest what the format says."""
        tsv = file.format == "tsv"
        quote = config.quote if config.quote is not None else "" if tsv else '"'
        delimiter = config.delimiter or ("\t" if tsv else ",")
        return cls(delimiter, quote or None, config.escape or None)

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Returns a reader that takes nothing but this dialect."""
        quoting: dict[str, Any] = (
            {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        )
        return csv.reader(
            lines, delimiter=self.delimiter, escapechar=self.escape, strict=True, **quoting
        )


def check_header(
    file: FileRange, header: list[str], names: tuple[str, ...], dialect: Dialect
) -> None:
    """Checks that a header has each of some columns once.

    Raises:
        InputError: It does not; the message names the flag that most likely mends it.
    """
    for name in names:
        if header.count(name) != 1:
            what = "more than one column" if name in header else "no column"
            meant = "" if name in header else nearest(name, header)
            shown = ", ".join(header)[:500]
            raise InputError(
                f"{file.url}: has {what} {name!r}{meant}; its columns are {shown}"
                f"{_remedy(header, name, dialect)}"
            )


def check_columns(
    file: FileRange, first: list[str], columns: tuple[str, ...], dialect: Dialect
) -> None:
    """Checks columns that were named in the place of a header against the first record.

    Raises:
        InputError: The file has a header after all, or the record plainly has other columns.
    """
    if first == list(columns):
        raise InputError(
            f"{file.url}: its first line is a header of the same names; leave --columns out"
        )
    if len(first) > len(columns) or (len(first) == 1 and len(columns) > 1):
        raise InputError(
            f"{file.url}: its first record has {len(first)} fields, but --columns names "
            f"{len(columns)}{_other_delimiter(first, dialect) or '; name all of them in order'}"
        )


def _remedy(header: list[str], name: str, dialect: Dialect) -> str:
    if name in header:
        return "; rename one of them"
    if header[0].casefold().startswith("sep="):
        return "; its first line is a note to Excel on the delimiter: take that line out"
    if other := _other_delimiter(header, dialect):
        return other
    if any("\0" in column for column in header):
        return "; that looks like UTF-16: name it with --encoding utf-16-le or utf-16-be"
    for column in header:
        if column.strip().strip("\"'").strip().casefold() == name.casefold():
            return f"; the nearest is {column!r}: name it exactly so, or mend the header"
    return "; name one of them, or where the file has no header its columns by --columns a,b,c"


def _other_delimiter(fields: list[str], dialect: Dialect) -> str:
    """Says which delimiter a line of a single field seems to have."""
    if len(fields) != 1:
        return ""
    counts = {one: fields[0].count(one) for one in _DELIMITERS if one != dialect.delimiter}
    likely = max(counts, key=lambda one: counts[one])
    return (
        f"; name what stands between them: --delimiter {_DELIMITERS[likely]}"
        if (counts[likely])
        else ""
    )
