"""Which columns of a record are read, and how they become its id and text."""

import reprlib
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import orjson
import pyarrow as pa

from embedkit.config import CorpusConfig, RecordConfig
from embedkit.corpus.metadata_types import declared_types, parse_type
from embedkit.errors import ConfigError

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
        templated: Whether numbers and booleans count as text, which they do in a template only.
        id: The id's column, or None.
        metadata: Columns that are carried along, with their types.
    """

    text: tuple[tuple[str, str | None], ...]
    templated: bool
    id: str | None
    metadata: tuple[tuple[str, pa.DataType], ...] = ()

    @classmethod
    def of(cls, config: RecordConfig, metadata: Iterable[tuple[str, str]] = ()) -> "Columns":
        """Takes the columns from a configuration.

        Args:
            config: Names the columns.
            metadata: The plan's metadata columns and types.

        Raises:
            ConfigError: The template is not plain text and column names in braces.
        """
        templated = config.text_template is not None
        text = (
            (("", config.text_column),)
            if config.text_template is None
            else _template(config.text_template)
        )
        kinds = tuple((name, parse_type(kind)) for name, kind in metadata)
        return cls(tuple(text), templated, config.id_column, kinds)

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


def required_columns(config: CorpusConfig) -> tuple[str, ...]:
    """Returns the columns that a CSV or Parquet file must have, declared types aside."""
    declared = tuple(declared_types(config.metadata_columns))
    return tuple(dict.fromkeys((*Columns.of(config).names, *declared)))


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
    return value


def make_texts(values: dict[str, Sequence[Any]], columns: Columns, problems: Problems) -> list[str]:
    """Makes the texts of a batch of records.

    Args:
        values: The columns by name, None where null or absent.
        columns: What the text is made of.
        problems: Takes what is wrong, by place; the text at such a place is empty.
    """
    parts = {
        name: _parts(values[name], name, columns.templated, problems) for name in columns.text_names
    }
    if columns.text == (("", columns.text_names[0]),):
        return parts[columns.text_names[0]]
    pieces: list[Iterable[str]] = []
    for literal, name in columns.text:
        pieces.append(repeat(literal))
        if name is not None:
            pieces.append(parts[name])
    return ["".join(piece) for piece in zip(*pieces, strict=False)]


def _parts(values: Sequence[Any], name: str, templated: bool, problems: Problems) -> list[str]:
    if set(map(type, values)) == {str}:
        return list(values)
    return [_part(place, value, name, templated, problems) for place, value in enumerate(values)]


def _part(place: int, value: object, name: str, templated: bool, problems: Problems) -> str:
    if type(value) is str:
        return value
    if value is None:
        detail = f"no value in column {name!r}; fill it, or name another text column"
        problems.setdefault(place, ("missing_column", detail))
        return ""
    if templated and isinstance(value, bool | int | float):
        return orjson.dumps(value).decode()
    detail = f"column {name!r} holds {shown(value)}, expected a string; mend it"
    if isinstance(value, bool | int | float):
        detail += f", or ask for its digits by --text-template '{{{name}}}'"
    problems.setdefault(place, ("wrong_type", detail))
    return ""


def shown(value: object) -> str:
    """Shows a value and its type in a few characters."""
    text = _REPR.repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:60] + '...'}"


def _template(template: str) -> list[tuple[str, str | None]]:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(
            f"text_template {template!r}: {error}; write a literal brace twice"
        ) from error
    for _, name, specification, conversion in parts:
        # Attributes and indexes would reach into Python objects, so names alone are allowed.
        if name is not None and (not name or set(name) & set(".[]") or specification or conversion):
            raise ConfigError(
                f"text_template {template!r}: {{{name}}} is not a plain column name in braces"
            )
    if not any(name for _, name, _, _ in parts):
        raise ConfigError(f"text_template {template!r}: names no column, as '{{title}}' does")
    return [(literal, name) for literal, name, _, _ in parts]
