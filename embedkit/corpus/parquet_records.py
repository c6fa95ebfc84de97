"""Records of Parquet files: the wanted columns, a batch of rows at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.config import CorpusConfig
from embedkit.corpus.arrow_values import row_bytes, spread, to_values
from embedkit.corpus.columns import Columns, too_long
from embedkit.corpus.compression import DamagedFileError
from embedkit.corpus.documents import Records, excerpt
from embedkit.corpus.int96 import exact_dates
from embedkit.corpus.opening import open_input
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError
from embedkit.errors.foreign import one_line
from embedkit.records import Reject

_BATCH_BYTES = 4 << 20
_MOST_BATCH_ROWS = 8192
_MOST_ROWS_READ = 256
"""Rows that Arrow unpacks at a time."""
_FEWER_ROWS_READ = 32
_FEWEST_ROWS_READ = 8
_SHARED_BYTES = 64 << 20
_LARGE_GROUP = 256 << 20
"""In a row group of more bytes, so many rows may be far larger than those of the whole are."""
_MOST_MEMBERS = 1 << 26
_MOST_MEMBERS_OF_A_ROW = 1024
"""Arrow unpacks all members of a row's list at once, in however few bytes they are stored."""
_OPTIONS: dict[str, Any] = {
    "pre_buffer": False,
    "buffer_size": 1 << 20,
    "page_checksum_verification": True,
}
_FEW_BYTES = 1 << 16
_LONG = "\0long"
_DROPPED = "\0dropped"
"""Names of columns that no file has: what is not there of a row as it is too long."""


def read_parquet(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads row groups; one that is damaged loses its rows and becomes one reject.

    Raises:
        InputError: The file's footer cannot be read.
    """
    with ExitStack() as stack:
        # Ids alone are a small part of each row group.
        fetch = None if columns.text else _FEW_BYTES
        opened = stack.enter_context(open_parquet(file, columns.names, fetch=fetch))
        dates = _of_96_bits(opened, columns.names)
        again = stack.enter_context(open_parquet(file, unit="ns")) if dates else None
        row = sum(opened.metadata.row_group(group).num_rows for group in range(file.start))
        for group in range(file.start, file.end):
            batches = _unpacked(opened, group, file, columns)
            if again:
                batches = exact_dates(batches, _batches(again, group, dates, _MOST_ROWS_READ))
            yield from _read_group(batches, opened, group, row, file, config, columns)
            row += opened.metadata.row_group(group).num_rows


@contextmanager
def open_parquet(
    file: FileRange, names: tuple[str, ...] = (), unit: str = "us", fetch: int | None = None
) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file; its columns are read page by page, never whole.

    Args:
        file: The file.
        names: Columns whose values stay in their dictionaries, as one of them may stand in any
            number of rows.
        unit: What dates of 96 bits count.
        fetch: Bytes that one request to a store asks for at least.

    Raises:
        InputError: It is gone, has changed since the plan, or is no Parquet file.
    """
    with open_input(file, fetch) as raw:
        options = {**_OPTIONS, "coerce_int96_timestamp_unit": unit}
        try:
            opened = pq.ParquetFile(raw, **options)
            shared = _shared(opened.metadata, names)
            if shared:
                footer = opened.metadata
                opened = pq.ParquetFile(raw, metadata=footer, read_dictionary=shared, **options)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file.url}: cannot be read as Parquet ({one_line(error)}); restore the file"
            ) from error
        with opened:
            _check_row_count(opened.metadata, file)
            yield opened


def _check_row_count(footer: pq.FileMetaData, file: FileRange) -> None:
    """Refuses a footer that has lost row groups, or their rows, and can be read all the same."""
    rows = sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
    if rows != footer.num_rows:
        raise InputError(
            f"{file.url}: its footer is damaged: it says {footer.num_rows} rows, but its row "
            f"groups have {rows}; restore the file"
        )


def _of_96_bits(opened: pq.ParquetFile, names: tuple[str, ...]) -> list[str]:
    """Returns the wanted columns in which are dates of 96 bits, by their outermost names."""
    footer = opened.metadata
    found = (
        column.path_in_schema
        for group in range(min(1, footer.num_row_groups))
        for column in _wanted(footer, group, names)
        if column.physical_type == "INT96"
    )
    known = opened.schema_arrow.names
    return sorted({name for path in found for name in known if f"{path}.".startswith(f"{name}.")})


def _shared(metadata: pq.FileMetaData, names: tuple[str, ...]) -> list[str]:
    """Returns the paths of wanted columns of strings or bytes that have a dictionary."""
    found: dict[str, None] = {}
    for group in range(metadata.num_row_groups):
        for column in _wanted(metadata, group, names):
            if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY":
                found[column.path_in_schema] = None
    return list(found)


def _wanted(
    metadata: pq.FileMetaData, group: int, names: tuple[str, ...]
) -> Iterator[pq.ColumnChunkMetaData]:
    row_group = metadata.row_group(group)
    for number in range(row_group.num_columns):
        column = row_group.column(number)
        path = column.path_in_schema
        if any(path == name or path.startswith(name + ".") for name in names):
            yield column


def column_bytes(metadata: pq.FileMetaData, group: int, names: tuple[str, ...]) -> tuple[int, int]:
    """Returns what the wanted columns of a row group take: bytes as stored, and unpacked."""
    stored = unpacked = 0
    for column in _wanted(metadata, group, names):
        stored += column.total_compressed_size
        unpacked += column.total_uncompressed_size
    return stored, unpacked


def column_type(schema: pa.Schema, name: str) -> pa.DataType | None:
    """Returns the type of a column, or None; ``a.b`` is ``b`` in ``a`` where no column is that."""
    if name in schema.names:
        return schema.field(schema.names.index(name)).type
    for outer, path in _paths(name):
        if outer in schema.names:
            kind = schema.field(schema.names.index(outer)).type
            for step in path:
                if not pa.types.is_struct(kind) or kind.get_field_index(step) < 0:
                    return None
                kind = kind.field(step).type
            return kind
    return None


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    names = batch.schema.names
    if name in names:
        return batch.column(names.index(name))
    if column_type(batch.schema, name) is None:
        return pa.nulls(batch.num_rows)
    outer, path = next((outer, path) for outer, path in _paths(name) if outer in names)
    return pc.struct_field(batch.column(names.index(outer)), path)


def _paths(name: str) -> Iterator[tuple[str, list[str]]]:
    """Yields a nested name as its outermost column and the steps from there, shortest first."""
    steps = name.split(".")
    for count in range(1, len(steps)):
        yield ".".join(steps[:count]), steps[count:]


def _read_group(
    batches: Iterator[pa.RecordBatch],
    opened: pq.ParquetFile,
    group: int,
    row: int,
    file: FileRange,
    config: CorpusConfig,
    columns: Columns,
) -> Iterator[Records]:
    end = row + opened.metadata.row_group(group).num_rows
    what = "it ends early"
    try:
        for batch in _gathered(_spread(batches, config, columns)):
            yield _records(batch, row, file, config, columns)
            row += batch.num_rows
    except DamagedFileError as error:
        what = str(error)
    if row < end:
        detail = (
            f"row group {group} cannot be read from row {row} on ({what}), so the rest of it, "
            f"{end - row} rows, is missing; restore the file"
        )
        yield Records(file.source, rejects=[Reject(file.source, row, "damaged_file", detail)])


def _unpacked(
    opened: pq.ParquetFile, group: int, file: FileRange, columns: Columns
) -> Iterator[pa.RecordBatch]:
    rows = opened.metadata.row_group(group).num_rows
    _check_members(opened.metadata, group, file, columns.names)
    _, unpacked = column_bytes(opened.metadata, group, columns.names)
    most = _MOST_ROWS_READ if unpacked <= _LARGE_GROUP else _FEWER_ROWS_READ
    # Bytes of a fixed length cannot stay in their dictionary.
    width = max(
        (
            opened.schema.column(number).length
            for number in range(len(opened.schema))
            if opened.schema.column(number).physical_type == "FIXED_LEN_BYTE_ARRAY"
        ),
        default=1,
    )
    share = _BATCH_BYTES * max(rows, 1) // max(unpacked, 1)
    size = max(1, min(most, share, _BATCH_BYTES // max(1, width)))
    if any(
        "DELTA_BYTE_ARRAY" in c.encodings for c in _wanted(opened.metadata, group, columns.names)
    ):
        # Of each value only what differs from the one before is stored.
        size = min(size, max(_FEWEST_ROWS_READ, _SHARED_BYTES // max(unpacked, 1)))
    return _batches(opened, group, list(columns.names), size)


def _batches(
    opened: pq.ParquetFile, group: int, names: list[str], size: int
) -> Iterator[pa.RecordBatch]:
    try:
        yield from opened.iter_batches(size, row_groups=[group], columns=names)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(one_line(error)) from error


def _check_members(
    metadata: pq.FileMetaData, group: int, file: FileRange, names: tuple[str, ...]
) -> None:
    rows = metadata.row_group(group).num_rows
    for column in _wanted(metadata, group, names):
        members = column.num_values
        if members > max(_MOST_MEMBERS, _MOST_MEMBERS_OF_A_ROW * rows):
            raise InputError(
                f"{file.url}: the lists of {excerpt(column.path_in_schema)} have {members:,} "
                f"members in the {rows:,} rows of row group {group}, more than can be read at a "
                "time; leave the column out, or write smaller row groups"
            )


def _spread(
    batches: Iterator[pa.RecordBatch], config: CorpusConfig, columns: Columns
) -> Iterator[pa.RecordBatch]:
    """Spreads values that rows share, few enough rows at a time that they fit into a batch.

    What is longer than a record may be is not spread: a row with such a text has its beginning in
    a column of its own instead, and one with such a metadata value has the name of that.
    """
    texts = {*columns.text_names, columns.id}
    for batch in batches:
        arrays = {name: _column(batch, name) for name in columns.names}
        sizes = {name: row_bytes(array) for name, array in arrays.items()}
        none = np.zeros(batch.num_rows, dtype=np.int64)
        long = sum((sizes[name] for name in texts if name), none) > config.max_record_bytes
        heads = [
            _head(arrays, columns, place) if long[place] else None for place in range(len(long))
        ]
        dropped: list[list[str]] = [[] for _ in range(len(long))]
        total = none
        for name, array in arrays.items():
            is_long = sizes[name] > config.max_record_bytes
            for place in np.flatnonzero(is_long & ~long) if name not in texts else ():
                dropped[place].append(name)
            blank = long | is_long
            if blank.any():
                arrays[name] = array.take(pa.array(np.arange(len(array)), mask=blank))
            total = total + np.where(blank, 0, sizes[name])
        arrays[_LONG] = pa.array(heads, pa.string())
        arrays[_DROPPED] = pa.array(dropped, pa.list_(pa.string()))
        ends = np.cumsum(total)
        start = 0
        while start < len(ends):
            done = ends[start - 1] if start else 0
            stop = int(np.searchsorted(ends, done + _BATCH_BYTES, side="right"))
            stop = max(start + 1, stop)
            pieces = [spread(array.slice(start, stop - start)) for array in arrays.values()]
            yield pa.RecordBatch.from_arrays(pieces, names=list(arrays))
            start = stop


def _head(arrays: dict[str, pa.Array], columns: Columns, place: int) -> str:
    for name in (*columns.text_names, columns.id):
        if name is not None and arrays[name][place].is_valid:
            try:
                return excerpt(to_values(arrays[name].slice(place, 1))[0])
            except ValueError:
                continue
    return ""


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Joins small batches and cuts large ones; what comes before any damage is given first."""
    held: list[pa.RecordBatch] = []
    size = rows = 0
    damage: DamagedFileError | None = None
    try:
        for batch in batches:
            held.append(batch)
            size, rows = size + batch.nbytes, rows + batch.num_rows
            if size >= _BATCH_BYTES or rows >= _MOST_BATCH_ROWS:
                yield from _evened(held, size, rows)
                held, size, rows = [], 0, 0
    except DamagedFileError as error:
        damage = error
    yield from _evened(held, size, rows)
    if damage:
        raise damage


def _evened(batches: list[pa.RecordBatch], size: int, rows: int) -> Iterator[pa.RecordBatch]:
    if rows:
        whole = pa.Table.from_batches(batches).combine_chunks()
        yield from whole.to_batches(max(1, _BATCH_BYTES * rows // max(size, 1)))


def _records(
    batch: pa.RecordBatch, row: int, file: FileRange, config: CorpusConfig, columns: Columns
) -> Records:
    records = Records(file.source, list(range(row, row + batch.num_rows)))
    rejects: dict[int, Reject] = {}
    for place, head in enumerate(batch.column(_LONG).to_pylist()):
        if head is not None:
            detail = too_long(config.max_record_bytes)
            rejects[place] = Reject(file.source, row + place, "too_long", detail, excerpt=head)
    for place, names in enumerate(batch.column(_DROPPED).to_pylist()):
        for name in names:
            what = f"a value longer than {config.max_record_bytes} bytes"
            records.unfit.setdefault(name, {})[place] = what
    undecodable: set[int] = set()
    texts = {*columns.text_names, columns.id}
    for name in columns.names:
        column = batch.column(name)
        records.columns[name] = _values(column, undecodable) if name in texts else column
    for place in undecodable - rejects.keys():
        shown = next((v[place] for v in records.columns.values() if isinstance(v, list)), "")
        detail = "a string of this row is not UTF-8; write the file anew from UTF-8 text"
        rejects[place] = Reject(
            file.source, row + place, "invalid_utf8", detail, excerpt=excerpt(shown)
        )
    return _without(records, rejects) if rejects else records


def _values(column: pa.Array, undecodable: set[int]) -> list[Any]:
    try:
        return to_values(column)
    except ValueError:
        values = []
    for place in range(len(column)):
        piece = column.slice(place, 1)
        try:
            values.extend(to_values(piece))
        except ValueError:
            undecodable.add(place)
            data = piece.view(pa.binary())[0].as_py() if piece.type == pa.string() else b""
            values.append(data.decode("utf-8", "replace"))
    return values


def _without(records: Records, rejects: dict[int, Reject]) -> Records:
    kept = [place for place in range(len(records.row_index)) if place not in rejects]
    chosen = pa.array(kept, pa.int64())
    columns = {
        name: values.take(chosen)
        if isinstance(values, pa.Array)
        else [values[place] for place in kept]
        for name, values in records.columns.items()
    }
    moved = {place: number for number, place in enumerate(kept)}
    unfit = {
        name: {moved[place]: what for place, what in values.items() if place in moved}
        for name, values in records.unfit.items()
    }
    return replace(
        records,
        row_index=[records.row_index[place] for place in kept],
        columns=columns,
        rejects=[rejects[place] for place in sorted(rejects)],
        unfit=unfit,
    )
