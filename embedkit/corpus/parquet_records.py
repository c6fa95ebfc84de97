"""Records of Parquet files: the wanted columns, a batch of rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.compression import DamagedFileError
from embedkit.corpus.documents import Records, excerpt
from embedkit.corpus.opening import open_input
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError
from embedkit.records import Reject

_BATCH_BYTES = 4 << 20
_MOST_BATCH_ROWS = 8192
_MOST_ROWS_READ = 256
"""Rows that Arrow unpacks at a time: a value that a page holds once may stand in all of them."""
_PAGE_BUFFER = 1 << 20


def read_parquet(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads row groups; one that is damaged loses its rows and becomes one reject.

    Raises:
        InputError: The file's footer cannot be read.
    """
    with open_parquet(file) as opened:
        row = sum(opened.metadata.row_group(group).num_rows for group in range(file.start))
        for group in range(file.start, file.end):
            yield from _read_group(opened, group, row, file, columns)
            row += opened.metadata.row_group(group).num_rows


@contextmanager
def open_parquet(file: FileRange) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file; its columns are read page by page, never whole.

    Raises:
        InputError: It is gone, has changed since the plan, or is no Parquet file.
    """
    with open_input(file) as raw:
        try:
            opened = pq.ParquetFile(
                raw, pre_buffer=False, buffer_size=_PAGE_BUFFER, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{file.url}: cannot be read as Parquet ({_line(error)}); restore the file"
            ) from error
        with opened:
            yield opened


def column_bytes(metadata: pq.FileMetaData, group: int, names: tuple[str, ...]) -> tuple[int, int]:
    """Returns what the wanted columns of a row group take: bytes as stored, and unpacked."""
    row_group = metadata.row_group(group)
    stored = unpacked = 0
    for number in range(row_group.num_columns):
        column = row_group.column(number)
        if column.path_in_schema.split(".")[0] in names or column.path_in_schema in names:
            stored += column.total_compressed_size
            unpacked += column.total_uncompressed_size
    return stored, unpacked


def _read_group(
    opened: pq.ParquetFile, group: int, row: int, file: FileRange, columns: Columns
) -> Iterator[Records]:
    end = row + opened.metadata.row_group(group).num_rows
    what = "it ends early"
    try:
        for batch in _gathered(_unpacked(opened, group, columns)):
            yield _records(batch, row, file, columns)
            row += batch.num_rows
    except DamagedFileError as error:
        what = str(error)
    if row < end:
        detail = (
            f"row group {group} cannot be read from row {row} on ({what}), so the rest of it, "
            f"{end - row} rows, is missing; restore the file"
        )
        yield Records(file.source, rejects=[Reject(file.source, row, "damaged_file", detail)])


def _unpacked(opened: pq.ParquetFile, group: int, columns: Columns) -> Iterator[pa.RecordBatch]:
    rows = opened.metadata.row_group(group).num_rows
    _, unpacked = column_bytes(opened.metadata, group, columns.names)
    size = max(1, min(_MOST_ROWS_READ, _BATCH_BYTES * max(rows, 1) // max(unpacked, 1)))
    try:
        yield from opened.iter_batches(size, row_groups=[group], columns=list(columns.names))
    except (pa.ArrowException, OSError) as error:
        raise DamagedFileError(_line(error)) from error


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


def _records(batch: pa.RecordBatch, row: int, file: FileRange, columns: Columns) -> Records:
    records = Records(file.source, list(range(row, row + batch.num_rows)))
    as_python = {*columns.text_names, columns.id}
    undecodable: set[int] = set()
    for name in columns.names:
        if name in columns.optional and name not in batch.schema.names:
            records.columns[name] = [None] * batch.num_rows
            continue
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if name in as_python:
            records.columns[name] = _pylist(column, undecodable)
        else:
            undecodable |= _undecodable(column)
            records.columns[name] = column
    return _without(records, undecodable) if undecodable else records


def _pylist(column: pa.Array, undecodable: set[int]) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = []
        for place, data in enumerate(column.cast(pa.large_binary()).to_pylist()):
            try:
                values.append(None if data is None else data.decode())
            except UnicodeDecodeError:
                undecodable.add(place)
                values.append(data.decode("utf-8", "replace"))
    return values


def _undecodable(column: pa.Array) -> set[int]:
    """Returns the places of values that are, or hold, strings that are not UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return {place for place in range(len(column)) if not _decodes(column[place])}
    return set()


def _decodes(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True


def _without(records: Records, undecodable: set[int]) -> Records:
    kept = [place for place in range(len(records.row_index)) if place not in undecodable]
    rejects = []
    for place in sorted(undecodable):
        shown = next(
            (v[place] for v in records.columns.values() if isinstance(v, list) and v[place]), ""
        )
        detail = "a string of this row is not UTF-8; write the file anew from UTF-8 text"
        row = records.row_index[place]
        rejects.append(Reject(records.source, row, "invalid_utf8", detail, excerpt=excerpt(shown)))
    chosen = pa.array(kept, pa.int64())
    columns = {
        name: pc.take(values, chosen)
        if isinstance(values, pa.Array)
        else [values[place] for place in kept]
        for name, values in records.columns.items()
    }
    rows = [records.row_index[place] for place in kept]
    return replace(records, row_index=rows, columns=columns, rejects=rejects)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
