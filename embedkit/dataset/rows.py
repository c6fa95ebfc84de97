"""The rows of a version, some columns of them, batch by batch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE, readable
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError

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
    version: Version, parts: Sequence[Part], columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Reads columns of all rows, in the order of the parts.

    Args:
        version: The version.
        parts: Its parts.
        columns: Names of the columns.

    Raises:
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    for part in parts:
        with opened_part(version, part) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE, columns=list(columns))
