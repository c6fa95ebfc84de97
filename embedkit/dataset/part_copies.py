"""Parts that are read for a few rows again and again: uncompressed copies on the local disk.

A part can only be decoded from its beginning. Where the rows of each block are all over an earlier
version, each of its parts would be decoded for each block.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from weakref import finalize

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.local_copies import folder_of_copies, written_whole
from embedkit.dataset.manifest import Part
from embedkit.dataset.rows import read_rows
from embedkit.dataset.version import Version
from embedkit.hashes.digests import digest

_LOG = logging.getLogger("embedkit")
_MOST_READS = 3
"""Times that a part is decoded before it is copied; blocks beside each other share one."""

_SPARED_BYTES = 4 << 30


class PartCopies:
    """Copies of a version's parts, which processes of this machine share.

    Args:
        version: The version.
    """

    def __init__(self, version: Version) -> None:
        self._version = version
        self._reads: Counter[str] = Counter()
        self._tables: dict[str, pa.Table] = {}
        self._paths: list[Path] = []
        # Those who have them mapped keep them; who comes later copies them once more.
        finalize(self, _remove, self._paths)

    def rows_of(
        self, part: Part, columns: Sequence[str], places: NDArray[np.int64]
    ) -> pa.Table | None:
        """Returns some rows of a part from its copy, which is made when it pays.

        Args:
            part: The part.
            columns: Names of columns, always the same; those that the part does not have are left
                out.
            places: Which rows, int64, shape (n,).

        Returns:
            None where there is no copy yet, or no room for one.

        Raises:
            IntegrityError: The part is gone or damaged.
            StoreError: The store failed.
        """
        table = self._tables.get(part.path)
        if table is None:
            self._reads[part.path] += 1
            if self._reads[part.path] <= _MOST_READS:
                return None
            if (table := self._copied(part, columns)) is None:
                return None
            self._tables[part.path] = table
        return table.take(pa.array(places))

    def _copied(self, part: Part, columns: Sequence[str]) -> pa.Table | None:
        name = digest(self._version.url, part.path, part.sha256, *columns)
        try:
            folder = folder_of_copies()
            path = folder / f"{name}.arrow"
            if not path.exists():
                table = read_rows(self._version, part, columns, checked=True)
                if shutil.disk_usage(folder).free < _SPARED_BYTES + table.nbytes:
                    return None
                with written_whole(path) as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table.combine_chunks())
            self._paths.append(path)
            with pa.memory_map(str(path)) as mapped:
                return pa.ipc.open_file(mapped).read_all()
        except OSError as error:
            _LOG.warning("%s: read again and again, as it cannot be copied (%s)", part.path, error)
            return None


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
