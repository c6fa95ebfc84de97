"""Parts as bytes: an EmbeddingBlock to Parquet, and Parquet back to rows."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.schema import PartOptions, metadata_columns, part_schema
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.formats.canonical import load_json
from embedkit.formats.reused import Reused
from embedkit.records import LINE_FIELD, SPANS_FIELD, TOKENS_FIELD
from embedkit.vectors import EmbeddingBlock, stored_of, value_column

ROW_GROUP_BYTES = 64 << 20
_COMPONENTS_AT_ONCE = 1 << 17
_BYTES_AT_ONCE = 16 << 20
RESTORE = "restore the file, or remove it and run the version's job again, which makes it anew"


def part_table(block: EmbeddingBlock, options: PartOptions) -> pa.Table:
    """Returns a block's rows with the columns of a part; vectors of the same type are not copied.

    Raises:
        IntegrityError: The block lacks a column, or its vectors have another dimension.
    """
    schema = part_schema(block.rows.schema, options)
    said = {**schema.metadata, **_of_reused(block, options)}
    schema = schema.with_metadata(dict(sorted(said.items())))
    rows = block.rows.append_column(LINE_FIELD, block.lines_in_range())
    try:
        columns = [rows.column(field.name).cast(field.type) for field in schema]
    except (KeyError, pa.ArrowException) as error:
        raise IntegrityError(
            f"block {block.block_id}: its rows do not fit the columns of a part "
            f"({one_line(error)}); this is a fault in the step that made it"
        ) from error
    return pa.table(columns, schema=schema)


def _of_reused(block: EmbeddingBlock, options: PartOptions) -> dict[bytes, bytes]:
    """Returns what a part says of the vectors that were taken over from an earlier version."""
    if block.reused is None:
        return {}
    said = {b"embedkit.reused": json.dumps(block.reused.to_dict(), sort_keys=True).encode()}
    ours = json.loads(options.file_metadata.get("embedkit.numerics", "{}"))
    if others := [one for one in block.reused.numerics if one != ours]:
        said[b"embedkit.reused_numerics"] = json.dumps(others).encode()
    return said


def reused_in(schema: pa.Schema, name: str, remedy: str = RESTORE) -> Reused | None:
    """Returns how the rows of a part stand to those of an earlier version, if its footer says it.

    Args:
        schema: The part's schema with its metadata.
        name: What an error calls the part.
        remedy: What an error says to do about it.

    Raises:
        IntegrityError: The footer is not what was written.
    """
    said = (schema.metadata or {}).get(b"embedkit.reused")
    try:
        return None if said is None else Reused.of_dict(load_json(said))
    except ValueError as error:
        raise IntegrityError(f"{name}: its footer is damaged ({error}); {remedy}") from error


def write_part(block: EmbeddingBlock, options: PartOptions) -> bytes:
    """Serializes a block's rows as one Parquet file; the same rows give the same bytes.

    Args:
        block: At least one row.
        options: How parts are written.

    Raises:
        IntegrityError: The rows do not fit the schema.
    """
    table = part_table(block, options)
    # Dictionaries pay for what repeats; on vectors, ids and texts they only cost.
    dictionary = ["source"] + [
        name for name in metadata_columns(table.schema) if _is_string(table.schema.field(name).type)
    ]
    many = options.column == "embeddings"
    without = {options.column, *((SPANS_FIELD.name, TOKENS_FIELD.name) if many else ())}
    # An Arrow sink doubles as it fills, and its content would have to be copied into bytes.
    sink = io.BytesIO()
    pq.write_table(
        _in_pieces(table),
        sink,
        row_group_size=max(1, ROW_GROUP_BYTES * len(table) // max(1, table.nbytes)),
        compression=_compression(table.schema, options),
        use_dictionary=dictionary,
        write_statistics=[name for name in table.schema.names if name not in without],
        data_page_version="1.0",
        store_schema=True,
    )
    return sink.getvalue()


def _compression(schema: pa.Schema, options: PartOptions) -> str | dict[str, str]:
    """Returns how columns are compressed.

    Zstandard saves a twelfth of vectors. Where these are nearly all of a part, as those of words
    and tokens are, that takes four times as long as all else about writing it.
    """
    if options.column != "embeddings":
        return "zstd"
    # Columns that are not named are left as they are.
    others = (field for field in schema if field.name != options.column)
    return {leaf: "zstd" for field in others for leaf in _leaves(field.type, field.name)}


def _leaves(kind: pa.DataType, path: str) -> Iterator[str]:
    """Yields the paths of the columns that Parquet makes of one of Arrow's."""
    if pa.types.is_map(kind):
        yield from _leaves(kind.key_type, f"{path}.key_value.key")
        yield from _leaves(kind.item_type, f"{path}.key_value.value")
    elif isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
        yield from _leaves(kind.value_type, f"{path}.list.element")
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(field.type, f"{path}.{field.name}")
    else:
        yield path


def _in_pieces(table: pa.Table) -> pa.Table:
    """Returns the same rows with the vectors in pieces.

    Parquet's writer notes a level of nesting for every component of a piece, in memory, before it
    writes any of them: all of a block's at once would take as much as the vectors themselves, and
    buffers above a MiB are memory that faults anew each time.
    """
    place = table.schema.get_field_index(value_column(table.schema))
    field, column = table.schema.field(place), table.column(place)
    vectors = stored_of(table)
    components = np.append(0, np.cumsum(vectors.counts)) * vectors.width
    pieces = []
    start = 0
    while start < len(vectors):
        end = np.searchsorted(components, components[start] + _COMPONENTS_AT_ONCE, side="right")
        rows = max(1, int(end) - 1 - start)
        pieces += column.slice(start, rows).chunks
        start += rows
    return table.set_column(place, field, pa.chunked_array(pieces, field.type))


@contextmanager
def readable(name: str, remedy: str = RESTORE) -> Iterator[None]:
    """Turns what Arrow raises on damaged bytes into an error that names the file.

    Args:
        name: The file.
        remedy: What to do about it.

    Raises:
        IntegrityError: The file is not the Parquet file that was written.
    """
    try:
        yield
    # Arrow takes names of a footer for UTF-8.
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"{name}: not a readable part ({one_line(error)}); {remedy}"
        ) from error


def rows_at_once(file: pq.ParquetFile, most: int) -> int:
    """Returns how many rows of a part to read at once, so that no batch is very large.

    Args:
        file: The part.
        most: Rows of a batch where each has one vector.
    """
    if value_column(file.schema_arrow) != "embeddings":
        return most
    groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
    size = sum(int(group.total_byte_size) for group in groups)
    return max(1, min(most, _BYTES_AT_ONCE * int(file.metadata.num_rows) // max(1, size)))


def read_table(
    data: bytes, name: str, columns: Sequence[str] | None = None, remedy: str = RESTORE
) -> pa.Table:
    """Reads a part from memory.

    Args:
        data: The file's bytes.
        name: What an error calls it.
        columns: The columns to read; all unless given.
        remedy: What an error says to do about it.

    Raises:
        IntegrityError: It is not readable.
    """
    with readable(name, remedy):
        return read_whole(pq.ParquetFile(pa.BufferReader(data)), columns)


def read_whole(
    file: pq.ParquetFile, columns: Sequence[str] | None = None, group: int | None = None
) -> pa.Table:
    """Reads columns of all rows, or of all rows of a row group.

    Arrow passes over a page whose kind it does not know, which is one wrong byte, and says
    nothing of the rows in it.

    Args:
        file: The file.
        columns: Their names; all unless given.
        group: The row group's number.

    Raises:
        EOFError: They are not as many as the footer says; ``readable`` names the file.
    """
    if group is None:
        expected, table = file.metadata.num_rows, file.read(columns=columns)
    else:
        expected = file.metadata.row_group(group).num_rows
        table = file.read_row_group(group, columns=columns)
    _check_rows(table.num_rows, expected)
    return table


def iter_whole(
    file: pq.ParquetFile, most: int, columns: Sequence[str], group: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Reads the same in batches of ``most`` rows at most.

    Raises:
        EOFError: They are not as many as the footer says, which turns out behind the last of them.
    """
    groups = list(range(file.num_row_groups)) if group is None else [group]
    found = 0
    for batch in file.iter_batches(most, row_groups=groups, columns=columns):
        found += batch.num_rows
        yield batch
    _check_rows(found, sum(file.metadata.row_group(one).num_rows for one in groups))


def _check_rows(found: int, expected: int) -> None:
    if found != expected:
        raise EOFError(f"{found} rows can be read of {expected}")


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
