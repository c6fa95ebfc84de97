"""Builds blocks from rows in memory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pyarrow as pa

from embedkit.config import RESERVED_COLUMNS, RecordConfig
from embedkit.corpus.blocks import make_blocks
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.columns import Columns, lookup
from embedkit.corpus.documents import Documents, Records, make_documents
from embedkit.corpus.metadata_types import declared_types, infer_type, parse_type
from embedkit.corpus.parts import in_parts, slices
from embedkit.corpus.plain_values import plain_value, without_nan
from embedkit.corpus.splits import Plan, Split
from embedkit.errors import ConfigError
from embedkit.hashes.digests import digest
from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock

Row = Mapping[str, Any]
Kinds = dict[str, frozenset[str]]
"""By column, the kinds of its values: the names of ``_VALUES``."""

_VALUES = {"bool": True, "int": 0, "long": 2**53 + 1, "huge": 2**64, "float": 0.0, "other": ""}
"""A value of each kind: whole numbers differ by whether a float, or 64 bits, hold them exactly."""


def plan_rows(shards: int) -> Plan:
    """Plans a version of rows that come from no file.

    Args:
        shards: Number of splits that ``row_split`` spreads rows over.
    """
    splits = tuple(Split(f"{number:05d}", ()) for number in range(shards))
    return Plan(base="", metadata=(), splits=splits, files=0, total_bytes=0, inputs_digest="")


def fields_of(row: Any) -> Mapping[Any, Any]:
    """Returns the fields of a mapping, named tuple or ``beam.Row``, their values as they are.

    Raises:
        ConfigError: It is something else.
    """
    if isinstance(row, Mapping):
        return row
    if hasattr(row, "_asdict"):
        fields: dict[str, Any] = row._asdict()
        return fields
    kind = type(row).__name__
    remedy = (
        "the step before has to say so: .with_output_types(DocumentBlock)"
        if isinstance(row, DocumentBlock)
        else "map it upstream"
    )
    raise ConfigError(f"rows: an element is a {kind}, expected a mapping or a Row; {remedy}")


def as_mapping(row: Any) -> dict[str, Any]:
    """Returns a mapping, named tuple or ``beam.Row`` as a dictionary of Python's own values.

    Raises:
        ConfigError: It is something else.
    """
    return {str(name): plain_value(value) for name, value in fields_of(row).items()}


def row_split(row: Row, config: RecordConfig, shards: int) -> str:
    """Returns the split of a row, told from its id, or from its text where it has none."""
    known = _value(row, _id_column(config))
    key = digest(_text_key(row, config) if known is None else str(known))
    return f"{int(key[:8], 16) % shards:05d}"


def value_kinds(row: Row, config: RecordConfig) -> Kinds:
    """Returns the kinds of a row's metadata values; nulls have none."""
    names = _metadata_names(config)
    taken = _not_metadata(config)
    return {
        name: frozenset() if value is None else frozenset({_kind(value)})
        for name, value in row.items()
        if (name in names if names else name not in taken)
    }


def add_kinds(left: Kinds, right: Kinds) -> Kinds:
    """Adds the kinds of two sets of rows."""
    return {
        name: left.get(name, frozenset()) | right.get(name, frozenset())
        for name in left.keys() | right.keys()
    }


def row_metadata(kinds: Kinds, config: RecordConfig) -> tuple[tuple[str, str], ...]:
    """Settles one type for each metadata column.

    A declared type counts first, then what all values of the column together are; mixed and
    nested values become their JSON text. Without ``metadata_columns``, every column is carried
    along that is neither the id nor part of the text.

    Args:
        kinds: The kinds of all rows together.
        config: Names the columns.

    Returns:
        Names and types, as ``Plan.metadata`` has them.

    Raises:
        ConfigError: A column has a name that is embedkit's own, or a type cannot be declared.
    """
    declared = declared_types(config.metadata_columns) or dict.fromkeys(sorted(kinds))
    if config.query_column is not None:
        declared |= {config.query_column: "string"}
    taken = sorted(RESERVED_COLUMNS.intersection(declared))
    if taken:
        raise ConfigError(
            f"rows: {', '.join(taken)} is a column of embedkit's own; rename it or leave it out "
            "upstream"
        )
    told = {name: infer_type(_VALUES[kind] for kind in found) for name, found in kinds.items()}
    return tuple((name, kind or told.get(name, "string")) for name, kind in declared.items())


def blocks_from_rows(
    split_id: str,
    rows: Iterable[Row],
    config: RecordConfig,
    metadata: tuple[tuple[str, str], ...] = (),
    chunker: Chunker | None = None,
) -> Iterator[DocumentBlock]:
    """Builds the blocks of one split from rows in memory.

    Args:
        split_id: The split.
        rows: Its rows, in any order. A row without an id gets one that is derived from its text,
            and from its number among the rows of that text.
        config: How rows become documents; without an id column, ``id`` is one where it is there.
        metadata: Metadata columns and their types.
        chunker: Cuts documents into chunks, or None.

    Yields:
        Blocks in the order of the ids, so that the same rows give the same blocks in whatever
        order they come. A row that cannot be used is a reject of its block; so is one whose id
        another has.
    """
    source = f"rows/{split_id}"
    ordered = _ordered(rows, config)
    duplicates = {
        (source, number)
        for number, ((before, _), (row_id, _)) in enumerate(pairwise(ordered), 1)
        if row_id is not None and str(before) == str(row_id)
    }
    fields = [pa.field(name, parse_type(kind)) for name, kind in metadata]
    schema = pa.schema([*DOCUMENT_SCHEMA, *fields])
    documents = _documents(source, ordered, config, metadata, schema, duplicates)
    return make_blocks(split_id, documents, schema, config, chunker)


def _ordered(rows: Iterable[Row], config: RecordConfig) -> list[tuple[Any, Row]]:
    """Returns ids and rows, sorted by what they are, each row without an id given one."""
    column = _id_column(config)
    known: list[tuple[Any, Row]] = []
    without: dict[str, list[Row]] = {}
    for row in rows:
        row_id = _value(row, column)
        if row_id is None and config.id_column is None:
            without.setdefault(_text_key(row, config), []).append(row)
        else:
            known.append((row_id, row))
    for text, equal in without.items():
        for number, row in enumerate(sorted(equal, key=_canonical)):
            known.append((digest(text, str(number)) if number else digest(text), row))
    return sorted(known, key=lambda pair: (str(pair[0]), _canonical(pair[1])))


def _documents(
    source: str,
    ordered: list[tuple[Any, Row]],
    config: RecordConfig,
    metadata: tuple[tuple[str, str], ...],
    schema: pa.Schema,
    duplicates: set[tuple[str, int]],
) -> Iterator[Documents]:
    found = Columns.of(config, metadata)
    id_column = _id_column(config)
    columns = replace(found, id=id_column)
    for start, stop in slices(row.values() for _, row in ordered):
        part = ordered[start:stop]
        values = {name: [lookup(row, name) for _, row in part] for name in columns.names}
        for name in columns.text_names:
            values[name] = [_value(row, name) for _, row in part]
        values[id_column] = [row_id for row_id, _ in part]
        records = Records(source=source, row_index=list(range(start, stop)), columns=values)
        for one in in_parts(records, columns, config.max_record_bytes):
            yield make_documents(one, columns, schema, config.max_record_bytes, duplicates)


def _value(row: Row, name: str) -> Any:
    """Returns an id or text of a row; pandas has NaN where there is none."""
    return without_nan(lookup(row, name))


def _id_column(config: RecordConfig) -> str:
    return config.id_column or "id"


def _metadata_names(config: RecordConfig) -> frozenset[str]:
    return frozenset(declared_types(config.metadata_columns))


def _not_metadata(config: RecordConfig) -> frozenset[str]:
    return frozenset((_id_column(config), *Columns.of(config).text_names))


def _text_key(row: Row, config: RecordConfig) -> str:
    return "\0".join(str(_value(row, name)) for name in Columns.of(config).text_names)


def _canonical(row: Row) -> str:
    return repr(sorted(row.items()))


def _kind(value: Any) -> str:
    if type(value) is int:
        if not -(1 << 63) <= value < 1 << 63:
            return "huge"
        return "int" if int(float(value)) == value else "long"
    name = type(value).__name__
    return name if name in _VALUES else "other"
