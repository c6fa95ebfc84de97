"""Which columns of a record are read, and how they become its id and text."""

import difflib
import reprlib
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.config import CorpusConfig, RecordConfig
from embedkit.corpus.candidates import joined
from embedkit.corpus.json_values import as_text
from embedkit.corpus.metadata_types import declared_types, parse_type
from embedkit.corpus.names import is_unicode
from embedkit.errors import ConfigError
from embedkit.records import EXCERPT

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 80
"""Shows values of any depth, as Python's own ``repr`` does not."""

Problems = dict[int, tuple[str, str]]
"""By place in a batch, the reason and detail of why a record is a reject; the first one counts."""


@dataclass(frozen=True)
class Columns:
    """What is read of every record.

    Attributes:
        text: Literal text and column names in turn, joined into the text: (literal, column or
            None). A single column without a template is ``(("", column),)``.
        templated: Whether the text comes of a template, in which numbers and booleans count as
            text, and nulls as nothing.
        id: The id's column, or None.
        metadata: Columns that are carried along, with their types.
        optional: Columns of the text that files need not have, as ``{title?}`` in a template.
        query: The column of ``metadata`` with the query of each text, where records are pairs.
        listed: Whether the text's column holds lists of texts, see ``corpus.candidates``.
    """

    text: tuple[tuple[str, str | None], ...]
    templated: bool
    id: str | None
    metadata: tuple[tuple[str, pa.DataType], ...] = ()
    optional: frozenset[str] = frozenset()
    query: str | None = None
    listed: bool = False

    @classmethod
    def of(cls, config: RecordConfig, metadata: Iterable[tuple[str, str]] = ()) -> "Columns":
        """Takes the columns from a configuration.

        Args:
            config: Names the columns.
            metadata: The plan's metadata columns and types.

        Raises:
            ConfigError: The template is not plain text and column names in braces.
        """
        kinds = tuple((name, parse_type(kind)) for name, kind in metadata)
        if config.text_template is None:
            column, listed = config.candidates_column, config.candidates_column is not None
            text = (("", column or config.text_column),)
            return cls(
                text, False, config.id_column, kinds, query=config.query_column, listed=listed
            )
        parts = _template(config.text_template)
        joined = tuple((literal, name and name.removesuffix("?")) for literal, name in parts)
        needed = {name for _, name in parts if name and not name.endswith("?")}
        optional = frozenset(name for _, name in joined if name and name not in needed)
        return cls(joined, True, config.id_column, kinds, optional, config.query_column)

    @classmethod
    def id_only(cls, config: CorpusConfig) -> "Columns":
        """Takes the id alone, for looking for duplicates."""
        return cls((), False, config.id_column)

    @property
    def text_names(self) -> tuple[str, ...]:
        """Columns of the text, each once."""
        return tuple(dict.fromkeys(name for _, name in self.text if name is not None))

    @property
    def names(self) -> tuple[str, ...]:
        """All columns to read, each once."""
        ids = () if self.id is None else (self.id,)
        return tuple(dict.fromkeys((*self.text_names, *ids, *(name for name, _ in self.metadata))))

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that every file must have that has columns at all."""
        others = {self.id, *(name for name, _ in self.metadata)}
        return tuple(name for name in self.names if name not in self.optional or name in others)

    @property
    def as_text(self) -> frozenset[str]:
        """Columns whose numbers are wanted as they are written."""
        texts = self.text_names if self.templated else ()
        strings = (name for name, kind in self.metadata if kind == pa.string())
        return frozenset((*texts, *strings))


def required_columns(config: CorpusConfig) -> tuple[str, ...]:
    """Returns the columns that a CSV or Parquet file must have, declared types aside."""
    declared = tuple(declared_types(config.carried_columns))
    return tuple(dict.fromkeys((*Columns.of(config).needed, *declared)))


def lookup(record: Mapping[str, Any], name: str) -> Any:
    """Returns a column of a record, or None; ``a.b`` is ``b`` in ``a`` where no column has a dot.

    Args:
        record: Values by name; mappings among them hold nested columns.
        name: The column.
    """
    if name in record:
        return record[name]
    outer, dot, rest = name.partition(".")
    inner = record.get(outer) if dot else None
    return lookup(inner, rest) if isinstance(inner, Mapping) else None


def nearest(name: str, names: Iterable[str]) -> str:
    """Asks whether a column was meant that has nearly the same name; empty where none has."""
    by_folded = {one.strip().casefold(): one for one in names}
    close = difflib.get_close_matches(name.strip().casefold(), by_folded, 1)
    return f" (is {by_folded[close[0]]!r} meant?)" if close else ""


def make_ids(values: Sequence[object], column: str, problems: Problems) -> list[str]:
    """Makes ids of a column's values; whole numbers become their decimal digits.

    Args:
        values: The column, None where it is null or absent.
        column: Its name.
        problems: Takes what is wrong, by place; the id at such a place is empty.
    """
    kinds = set(map(type, values))
    if kinds == {int}:
        return [str(value) for value in values]
    ids = [_id(place, value, column, problems) for place, value in enumerate(values)]
    return ids


def _id(place: int, value: object, column: str, problems: Problems) -> str:
    if type(value) is int:
        return str(value)
    if value is None or value == "":
        problems.setdefault(
            place, ("missing_id", f"no id in column {column!r}; give every record one")
        )
        return ""
    if type(value) is not str:
        detail = f"column {column!r} holds {shown(value)}, expected a string or a whole number"
        problems.setdefault(place, ("wrong_type", f"{detail}; mend the id"))
        return ""
    if "\0" in value:
        problems.setdefault(
            place, ("nul_byte", f"the id in column {column!r} holds a NUL; take it out")
        )
        return ""
    if not value.isascii() and not is_unicode(value):
        detail = f"the id in column {column!r} holds half of a surrogate pair; mend its escapes"
        problems.setdefault(place, ("invalid_json", detail))
        return ""
    return value


def text_lengths(values: Mapping[str, Sequence[Any]], columns: Columns) -> NDArray[np.int64]:
    """Returns how many characters each record's text has, as the template repeats its columns.

    Args:
        values: The columns by name, None where null or absent.
        columns: What the text is made of.

    Returns:
        The lengths, int64, shape (records,).
    """
    times = Counter(name for _, name in columns.text if name is not None)
    literals = sum(len(literal) for literal, _ in columns.text)
    total = np.full(len(values[columns.text_names[0]]), literals, dtype=np.int64)
    for name, count in times.items():
        total += count * np.fromiter(map(_length, values[name]), np.int64, len(total))
    return total


def _length(value: object) -> int:
    if isinstance(value, str):
        return len(value)
    return len(as_text(value)) if isinstance(value, int | float) else 0


def make_texts(
    values: dict[str, Sequence[Any]], columns: Columns, problems: Problems, max_chars: int
) -> list[str]:
    """Makes the texts of a batch of records.

    In a template a null is nothing; where all of its columns are null or empty, the literals
    between them make no text either. One that would be too long is not made, but is the beginning
    of its first column instead.

    Args:
        values: The columns by name, None where null or absent.
        columns: What the text is made of.
        max_chars: A longer text is surely too long.
        problems: Takes what is wrong, by place; the text at such a place is empty.
    """
    if columns.listed:
        return _joined(values[columns.text_names[0]], columns.text_names[0], problems)
    parts = {
        name: _parts(values[name], name, columns.templated, problems) for name in columns.text_names
    }
    if columns.text == (("", columns.text_names[0]),):
        texts = parts[columns.text_names[0]]
        return _needed(texts, values, columns, problems) if columns.templated else texts
    pieces: list[Iterable[str]] = []
    for literal, name in columns.text:
        pieces.append(repeat(literal))
        if name is not None:
            pieces.append(parts[name])
    filled = [any(map(str.strip, row)) for row in zip(*parts.values(), strict=True)]
    fits = text_lengths(values, columns) <= max_chars
    texts = [
        "".join(piece) if fit else next(filter(str.strip, piece))[:EXCERPT]
        for piece, fit in zip(zip(*pieces, strict=False), fits, strict=False)
    ]
    for place in np.flatnonzero(~fits & np.array(filled, np.bool_)).tolist():
        problems.setdefault(place, ("too_long", too_long(max_chars)))
    if not all(filled):
        texts = [text if full else "" for text, full in zip(texts, filled, strict=True)]
    return _needed(texts, values, columns, problems)


def _joined(values: Sequence[Any], name: str, problems: Problems) -> list[str]:
    texts = []
    for place, value in enumerate(values):
        text = ""
        if value is None:
            detail = f"no value in column {name!r}; fill it, or name another candidates column"
            problems.setdefault(place, ("missing_column", detail))
        elif not isinstance(value, list | tuple):
            detail = f"column {name!r} holds {shown(value)}, expected a list of strings; mend it"
            problems.setdefault(place, ("wrong_type", detail))
        else:
            text, reason, detail = joined(value, name)
            if reason:
                problems.setdefault(place, (reason, detail))
        texts.append(text)
    return texts


def _needed(
    texts: list[str], values: dict[str, Sequence[Any]], columns: Columns, problems: Problems
) -> list[str]:
    """Notes where no column of a template has a value."""
    for place, text in enumerate(texts):
        if not text and all(values[name][place] is None for name in columns.text_names):
            named = ", ".join(map(repr, columns.text_names))
            detail = f"no value in column {named}; fill it, or name another text column"
            problems.setdefault(place, ("missing_column", detail))
    return texts


def _parts(values: Sequence[Any], name: str, templated: bool, problems: Problems) -> list[str]:
    if set(map(type, values)) == {str}:
        return list(values)
    return [_part(place, value, name, templated, problems) for place, value in enumerate(values)]


def _part(place: int, value: object, name: str, templated: bool, problems: Problems) -> str:
    if type(value) is str:
        return value
    if value is None and templated:
        return ""
    if value is None:
        detail = f"no value in column {name!r}; fill it, or name another text column"
        problems.setdefault(place, ("missing_column", detail))
        return ""
    if templated and isinstance(value, bool | int | float):
        return as_text(value)
    detail = f"column {name!r} holds {shown(value)}, expected a string; mend it"
    if isinstance(value, bool | int | float):
        detail += f", or ask for its digits by --text-template '{{{name}}}'"
    problems.setdefault(place, ("wrong_type", detail))
    return ""


def make_queries(values: Any, column: str, problems: Problems) -> list[str]:
    """Makes the queries of a batch of pairs.

    Args:
        values: The column, None where null or absent; or strings in an Arrow array.
        column: Its name.
        problems: Takes what is wrong, by place; the query at such a place is empty.
    """
    queries = []
    for place, value in enumerate(values.to_pylist() if isinstance(values, pa.Array) else values):
        if value is None:
            detail = f"no value in column {column!r}; fill it, or name another query column"
            problems.setdefault(place, ("missing_column", detail))
        elif type(value) is not str:
            detail = f"column {column!r} holds {shown(value)}, expected a string; mend it"
            problems.setdefault(place, ("wrong_type", detail))
        queries.append(value if type(value) is str else "")
    return queries


def too_long(max_bytes: int) -> str:
    """Says what is wrong with a record that is too long."""
    return f"longer than {max_bytes} bytes; split it, or raise --max-record-bytes"


def shown(value: object) -> str:
    """Shows a value and its type in a few characters."""
    text = _REPR.repr(value)
    kind = "float" if isinstance(value, float) else type(value).__name__
    return f"{kind} {text if len(text) <= 60 else text[:60] + '...'}"


def _template(template: str) -> list[tuple[str, str | None]]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"text_template {template!r}: {error}; write a literal brace twice"
        ) from error
    for _, name, specification, conversion in parts:
        # An index would reach into Python objects, so names alone are allowed, dots among them.
        if name is not None and (
            not name.removesuffix("?") or set(name) & set("[]") or specification or conversion
        ):
            raise ConfigError(
                f"text_template {template!r}: {{{name}}} is not a plain column name in braces"
            )
    if not any(name for _, name, _, _ in parts):
        raise ConfigError(f"text_template {template!r}: names no column, as '{{title}}' does")
    return [(literal, name) for literal, name, _, _ in parts]
