"""The rows of a version, some columns of them, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE, readable
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError

_ROWS_AT_ONCE = 16_384


@contextmanager
def opened_part(version: Version, part: Part) -> Iterator[pq.ParquetFile]:
    """Opens a part for reading some of its columns.

    Raises:
        IntegrityError: It is gone or, now or while it is read, turns out to be damaged.
        StoreError: The store failed.
    """
    key = version.key(part.path)
    try:
        file = version.store.open(key)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{version.url_of(key)}: in the manifest, but gone; {RESTORE}"
        ) from error
    with file, readable(version.url_of(key)):
        yield pq.ParquetFile(file, pre_buffer=True)


def read_columns(
    version: Version, parts: Sequence[Part], columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Reads columns of all rows, in the order of the parts.

    Args:
        version: The version.
        parts: Its parts.
        columns: Names of the columns; all where None.

    Raises:
        ConfigError: There is no such column.
        IntegrityError: A part is gone, damaged, or has other rows than the manifest says.
        StoreError: The store failed.
    """
    for part in parts:
        with opened_part(version, part) as file:
            if file.metadata.num_rows != part.rows:
                raise IntegrityError(
                    f"{version.url}/{part.path}: {file.metadata.num_rows} rows, expected "
                    f"{part.rows}; {RESTORE}"
                )
            chosen = checked_columns(file.schema_arrow, columns)
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=chosen)


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
        ConfigError: There is no such column.
    """
    if columns is None:
        return list(schema.names)
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise ConfigError(
            f"no column {', '.join(map(repr, unknown))}; there are {', '.join(schema.names)}"
        )
    return list(columns)
