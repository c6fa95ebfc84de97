"""Objects in this process."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from embedkit.dataset.object_store import ObjectStore


class MemoryStore(ObjectStore):
    """Objects in this process, for tests and small experiments."""

    _lock = threading.RLock()

    def __init__(self, url: str, system: Any, path: str) -> None:
        super().__init__(url, system, path, (OSError,))

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object unless the key is taken."""
        with self._lock:
            if self.size(key) is not None:
                return False
            self.replace(key, data)
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces an object."""
        with self._lock:
            super().replace(key, data)

    def read(self, key: str) -> bytes:
        """Returns an object's bytes."""
        with self._lock:
            return super().read(key)

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        with self._lock:
            return super().size(key)

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, or None where there is no such object."""
        with self._lock:
            return super().modified(key)

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the keys below a prefix with sizes and times, sorted."""
        with self._lock:
            found = list(super().times(prefix))
        yield from found

    def folders(self) -> Sequence[str]:
        """Returns the names directly below the root that have objects below them, sorted."""
        with self._lock:
            return super().folders()

    def open(self, key: str) -> Any:
        """Opens an object; the file system itself would share one position among all readers."""
        return pa.BufferReader(self.read(key))

    def remove(self, key: str) -> None:
        """Removes an object where it exists."""
        with self._lock:
            super().remove(key)
