"""What the plan takes from a Parquet file's footer: its columns' types and its row groups."""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.config import CorpusConfig
from embedkit.corpus.arrow_values import is_binary, is_string, is_uuid, plain_type
from embedkit.corpus.columns import Columns, nearest, required_columns
from embedkit.corpus.metadata_plan import Found
from embedkit.corpus.metadata_types import declared_types, type_name
from embedkit.corpus.parquet_records import column_bytes, column_type, open_parquet
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError


def plan_parquet(file: FileRange, config: CorpusConfig) -> tuple[tuple[FileRange, ...], Found]:
    """Checks a Parquet file's columns and cuts it by row groups.

    Args:
        file: The file.
        config: Names the columns and the size of a split.

    Returns:
        Its ranges, at least one, and the types of its metadata columns.

    Raises:
        InputError: It is no Parquet file, or a column is missing or of a type that is no use.
    """
    names = required_columns(config)
    with open_parquet(file) as opened:
        schema = opened.schema_arrow
        _check_columns(file, schema, names)
        _check_types(file, schema, Columns.of(config))
        found = Found(file.url, _metadata(file, schema, config))
        return tuple(_ranges(file, opened.metadata, names, config.split_bytes)), found


def _check_columns(file: FileRange, schema: pa.Schema, names: tuple[str, ...]) -> None:
    for name in names:
        if schema.names.count(name) > 1 or column_type(schema, name) is None:
            what = "more than one column" if name in schema.names else "no column"
            meant = "" if name in schema.names else nearest(name, _names(schema))
            raise InputError(
                f"{file.url}: has {what} {name!r}{meant}; its columns are "
                f"{', '.join(schema.names)[:500]}"
            )


def _names(schema: pa.Schema) -> Iterator[str]:
    for field in schema:
        yield field.name
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{inner.name}" for inner in field.type)


def _check_types(file: FileRange, schema: pa.Schema, columns: Columns) -> None:
    for name in columns.text_names:
        found = column_type(schema, name)
        if found is None:
            continue
        kind = plain_type(found)
        number = (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        )
        if columns.listed:
            is_listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
            if not (is_listed and _is_text(plain_type(kind.value_type))):
                raise InputError(
                    f"{file.url}: candidates column {name!r} is of type {str(kind)[:100]}, "
                    "expected a list of strings"
                )
            continue
        digits = not pa.types.is_nested(kind) and not pa.types.is_fixed_size_binary(kind)
        if not (_is_text(kind) or (digits and columns.templated)):
            remedy = f"; its digits are read by --text-template '{{{name}}}'" if number else ""
            raise InputError(
                f"{file.url}: text column {name!r} is of type {str(kind)[:100]}, expected "
                f"string{remedy}"
            )
    if columns.query is not None:
        kind = plain_type(column_type(schema, columns.query))
        if not _is_text(kind):
            raise InputError(
                f"{file.url}: query column {columns.query!r} is of type {str(kind)[:100]}, "
                "expected string"
            )
    if columns.id is not None:
        kind = plain_type(column_type(schema, columns.id))
        whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
        if not (_is_text(kind) or whole or is_uuid(kind)):
            raise InputError(
                f"{file.url}: id column {columns.id!r} is of type {str(kind)[:100]}, expected a "
                "string, an integer or a UUID"
            )


def _metadata(file: FileRange, schema: pa.Schema, config: CorpusConfig) -> dict[str, str]:
    kinds = {}
    for name, declared in declared_types(config.carried_columns).items():
        kind = plain_type(column_type(schema, name))
        if pa.types.is_null(kind) and not declared:
            # A file of nulls alone goes with any type that another has.
            continue
        try:
            kinds[name] = declared or type_name(kind)
        except ValueError as error:
            raise InputError(
                f"{file.url}: metadata column {name!r} is of type {str(kind)[:100]}, which is not "
                f"carried along; declare {name}:string to get it as JSON"
            ) from error
    return kinds


def _ranges(
    file: FileRange, metadata: pq.FileMetaData, names: tuple[str, ...], split_bytes: int
) -> Iterator[FileRange]:
    start = stored = rows = 0
    for group in range(metadata.num_row_groups):
        size, _ = column_bytes(metadata, group, names)
        if group > start and stored + size > split_bytes:
            yield replace(file, start=start, end=group, stored=stored, rows=rows)
            start, stored, rows = group, 0, 0
        stored += size
        rows += metadata.row_group(group).num_rows
    yield replace(file, start=start, end=metadata.num_row_groups, stored=stored, rows=rows)


def _is_text(kind: pa.DataType) -> bool:
    """Tells whether values are text: strings, the bytes of such, or nulls alone."""
    if pa.types.is_fixed_size_binary(kind):
        return False
    return is_string(kind) or is_binary(kind) or bool(pa.types.is_null(kind))
