"""Where passes over a version leave rows for the passes behind them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.hashes.local_files import writing_in

Rows = NDArray[np.void]

_FOLDER = "_meta/near/"


class Scratch(Protocol):
    """Files of rows of one type each; picklable."""

    def write(self, name: str, rows: Rows) -> None:
        """Writes a file, again where it is there: whoever does writes the same.

        Raises:
            OSError: There is no room for it.
            StoreError: The store failed.
        """
        ...

    def read(self, name: str, dtype: np.dtype[np.void], start: int, count: int) -> Rows:
        """Reads some rows of a file.

        Raises:
            GoneError: It is not there.
            StoreError: The store failed.
        """
        ...


@dataclass(frozen=True)
class LocalScratch:
    """Files of this machine.

    Attributes:
        folder: Where they are.
    """

    folder: str

    def write(self, name: str, rows: Rows) -> None:
        """Writes a file."""
        # Not by tofile, which loses its last bytes on a full disk and says nothing.
        with writing_in(self.folder), (Path(self.folder) / name).open("wb") as file:
            file.write(rows.data)

    def read(self, name: str, dtype: np.dtype[np.void], start: int, count: int) -> Rows:
        """Reads some rows of a file."""
        with (Path(self.folder) / name).open("rb") as file:
            file.seek(start * dtype.itemsize)
            return np.fromfile(file, dtype, count)


@contextmanager
def scratch_here() -> Iterator[LocalScratch]:
    """Gives a folder of this machine, which goes when the body is left."""
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        yield LocalScratch(folder)


@dataclass(frozen=True)
class StoreScratch:
    """Objects beside a version's plan, where all workers of an engine find them.

    Attributes:
        version: The version, which is not complete yet.
        token: Names this attempt.
    """

    version: Version
    token: str

    def write(self, name: str, rows: Rows) -> None:
        """Writes an object."""
        self.version.store.replace(self._key(name), rows.tobytes())

    def read(self, name: str, dtype: np.dtype[np.void], start: int, count: int) -> Rows:
        """Reads some rows of an object."""
        key = self._key(name)
        with self.version.store.open(key) as file:
            file.seek(start * dtype.itemsize)
            data: Any = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise IntegrityError(
                f"{self.version.url_of(key)}: does not keep what is written there; check the "
                "output store, then run the same command again"
            )
        return np.frombuffer(data, dtype)

    def _key(self, name: str) -> str:
        return self.version.key(f"{_FOLDER}{self.token}/{name}")


def remove_scratch(version: Version) -> None:
    """Removes what passes left beside a version's plan, those of killed runs as well.

    Raises:
        StoreError: The store failed.
    """
    prefix = version.key(_FOLDER)
    for key in list(version.store.list(prefix)):
        version.store.remove(key)
    version.store.remove_empty(prefix)
