"""The rows of a version, some columns of them, batch by batch."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import readable
from embedkit.dataset.version import Version

_ROWS_AT_ONCE = 16_384


def read_columns(
    version: Version, parts: Sequence[Part], columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Reads columns of all rows, in the order of the parts.

    Args:
        version: The version.
        parts: Its parts.
        columns: Names of the columns.

    Raises:
        IntegrityError: A part is damaged.
    """
    for part in parts:
        key = version.key(part.path)
        with version.store.open(key) as file, readable(version.url_of(key)):
            yield from pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE, columns=list(columns))
