"""The rows of a version, some columns of them, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.dataset.committed import committed
from embedkit.dataset.finalize import Totals
from embedkit.dataset.manifest import Part, read_manifest
from embedkit.dataset.parquet import RESTORE, iter_whole, read_whole, readable
from embedkit.dataset.parquet import rows_at_once as bounded_rows
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.formats.canonical import sha256

_ROWS_AT_ONCE = 16_384
_FEW_ROWS_AT_ONCE = 1024
_READ_AHEAD = 1 << 20
_READ_WHOLE = 1 << 20


def parts_of(version: Version) -> tuple[Part, ...]:
    """Returns the parts of a version in block order; of an unfinished one those that are committed.

    Raises:
        IntegrityError: The manifest or a commit record is damaged.
        StoreError: The store failed.
    """
    if version.is_complete():
        return read_manifest(version).parts
    return tuple(Totals.of(tuple(committed(version).values())).parts)


@contextmanager
def opened_part(
    version: Version, part: Part, whole_columns: bool = True, checked: bool = False
) -> Iterator[pq.ParquetFile]:
    """Opens a part for reading some of its columns.

    Args:
        version: The version.
        part: The part.
        whole_columns: Whether its columns are read to their end, so that each is asked for at once.
        checked: Whether all of it is read, and compared with its SHA-256.

    Raises:
        IntegrityError: It is gone or, now or while it is read, turns out to be damaged.
        RemovedError: The whole version is gone.
        StoreError: The store failed.
    """
    key = version.key(part.path)
    with while_it_stands(version):
        try:
            # Of a small one a request for each column would take longer than all of its bytes.
            whole = checked or part.size <= _READ_WHOLE
            data = version.store.read(key) if whole else b""
            file = pa.BufferReader(data) if whole else version.store.open(key)
        except FileNotFoundError as error:
            raise IntegrityError(
                f"{version.url_of(key)}: in the manifest, but gone; {RESTORE}"
            ) from error
        if checked and sha256(data) != part.sha256:
            raise IntegrityError(
                f"{version.url_of(key)}: its SHA-256 is not {part.sha256}, as was written; "
                f"{RESTORE}"
            )
        with file, readable(version.url_of(key)):
            yield pq.ParquetFile(
                file, pre_buffer=whole_columns, buffer_size=0 if whole_columns else _READ_AHEAD
            )


def read_columns(
    version: Version,
    parts: Sequence[Part],
    columns: Sequence[str] | None,
    rows_at_once: int = _ROWS_AT_ONCE,
) -> Iterator[pa.RecordBatch]:
    """Reads columns of all rows, in the order of the parts.

    Args:
        version: The version.
        parts: Its parts.
        columns: Names of columns that the version has; all where None.
        rows_at_once: Most rows of a batch.

    Raises:
        IntegrityError: A part is gone, damaged, or has other rows or columns than the manifest
            and the other parts say.
        StoreError: The store failed.
    """
    for part in parts:
        with opened_part(version, part) as file:
            if file.metadata.num_rows != part.rows:
                raise IntegrityError(
                    f"{version.url}/{part.path}: {file.metadata.num_rows} rows, expected "
                    f"{part.rows}; {RESTORE}"
                )
            names = file.schema_arrow.names
            lacking = [name for name in columns or () if name not in names]
            if lacking:
                raise IntegrityError(
                    f"{version.url}/{part.path}: no column {lacking[0]!r}; {RESTORE}"
                )
            chosen = names if columns is None else list(columns)
            most = rows_at_once
            if "embeddings" in chosen:
                most = bounded_rows(file, rows_at_once)
            yield from iter_whole(file, most, chosen)


def read_rows(
    version: Version,
    part: Part,
    columns: Sequence[str],
    places: NDArray[np.int64] | None = None,
    checked: bool = False,
) -> pa.Table:
    """Reads some rows of a part and its footer, and no more than up to the last of them.

    Args:
        version: The version.
        part: The part.
        columns: Names of columns; those that the part does not have are left out.
        places: Which rows, ascending, int64, shape (n,); all where None.
        checked: Whether all of it is read, and compared with its SHA-256.

    Raises:
        IntegrityError: The part is gone or damaged, or has fewer rows.
        StoreError: The store failed.
    """
    with opened_part(version, part, places is None, checked) as file:
        names = [name for name in file.schema_arrow.names if name in columns]
        if places is None:
            return read_whole(file, names)
        found: list[pa.RecordBatch] = []
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            inside = places[(places >= start) & (places < start + rows)] - start
            found += _picked(file, group, names, inside)
            start += rows
        if len(places) and places[-1] >= start:
            raise IntegrityError(f"{version.url}/{part.path}: {start} rows, too few; {RESTORE}")
        schema = pa.schema([file.schema_arrow.field(name) for name in names])
        table = pa.Table.from_batches(found, schema)
        return table.replace_schema_metadata(file.schema_arrow.metadata)


def _picked(
    file: pq.ParquetFile, group: int, names: Sequence[str], places: NDArray[np.int64]
) -> Iterator[pa.RecordBatch]:
    """Yields some rows of a row group, and stops behind the last of them."""
    start = 0
    if not len(places):
        return
    most = _FEW_ROWS_AT_ONCE
    if "embeddings" in names:
        most = bounded_rows(file, most)
    for batch in iter_whole(file, most, names, group):
        inside = places[(places >= start) & (places < start + len(batch))] - start
        yield batch.take(pa.array(inside))
        start += len(batch)
        if start > places[-1]:
            return


def schema_of(version: Version, parts: Sequence[Part]) -> pa.Schema:
    """Returns the schema of a version's rows, which all parts share; empty where there are none.

    Raises:
        IntegrityError: The first part is gone or damaged.
        StoreError: The store failed.
    """
    if not parts:
        return pa.schema([])
    with opened_part(version, parts[0]) as file:
        return file.schema_arrow


def checked_columns(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """Returns the names of the columns to read: those asked for, or all.

    Raises:
        ConfigError: There is no such column, or a single name was given for a list of them.
    """
    if columns is None:
        return list(schema.names)
    if isinstance(columns, str):
        raise ConfigError(f"columns: give a list, as [{columns!r}]")
    # Once, as it may be an iterator.
    names = list(columns)
    unknown = [name for name in names if name not in schema.names]
    if unknown:
        raise ConfigError(
            f"no column {', '.join(map(repr, unknown))}; there are {', '.join(schema.names)}"
        )
    return names
