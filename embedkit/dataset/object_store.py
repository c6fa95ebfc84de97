"""Objects of any file system of fsspec's that creates a key only if it is free."""

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from embedkit.dataset.store_keys import AskedKeys, checked_key, store_errors

_TIMES = ("updated", "LastModified", "last_modified", "mtime", "created")


class ObjectStore:
    """Objects of any fsspec file system whose ``pipe_file`` knows ``mode="create"``."""

    def __init__(
        self, url: str, system: Any, path: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._url = url
        self._system = system
        self._base = path.rstrip("/")
        self._errors = errors

    @property
    def url(self) -> str:
        """The root's URL."""
        return self._url

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object unless the key is taken."""
        path = self._path(key)
        with store_errors(self._url, key, "create", self._errors):
            try:
                self._put_if_absent(path, data)
            except FileExistsError:
                return False
        return True

    def copy(self, source: str, key: str) -> bool:
        """Creates an object with the bytes of another, which are read here, if the key is free."""
        return self.create(key, self.read(source))

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces an object."""
        path = self._path(key)
        with store_errors(self._url, key, "replace", self._errors):
            self._system.pipe_file(path, data)

    def read(self, key: str) -> bytes:
        """Returns an object's bytes."""
        path = self._path(key)
        with store_errors(self._url, key, "read", self._errors, missing=True):
            data: bytes = self._system.cat_file(path)
            return data

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        path = self._path(key)
        with store_errors(self._url, key, "look for", self._errors):
            try:
                return int(self._system.info(path)["size"])
            except FileNotFoundError:
                return None

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, or None where there is none or nobody tells."""
        path = self._path(key)
        with store_errors(self._url, key, "look for", self._errors):
            try:
                found = self._system.info(path)
            except FileNotFoundError:
                return None
        return time_in(found)

    def list(self, prefix: str) -> Iterator[str]:
        """Yields the keys below a prefix, sorted."""
        for key, _ in self.sizes(prefix):
            yield key

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields the same keys with their sizes, by the same listing."""
        for key, size, _ in self.times(prefix):
            yield key, size

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the same keys with sizes and times, by the same listing."""
        with store_errors(self._url, prefix, "list", self._errors):
            self._system.invalidate_cache()
            found = self._system.find(f"{self._base}/{prefix}".rstrip("/"), detail=True)
        start = len(self._base) + 1
        for path in sorted(found):
            yield path[start:], int(found[path]["size"]), time_in(found[path])

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix; fsspec lists no less than a folder."""
        return AskedKeys(prefix, self.size)

    def folders(self) -> Sequence[str]:
        """Returns the names directly below the root that have objects below them, sorted."""
        with store_errors(self._url, "", "list", self._errors):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._base, detail=True)
            except FileNotFoundError:
                return []
        paths = [entry["name"] for entry in found if entry["type"] == "directory"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def open(self, key: str) -> Any:
        """Opens an object for reads of ranges, each of them one request."""
        path = self._path(key)
        with store_errors(self._url, key, "open", self._errors, missing=True):
            file = self._system.open(path, "rb", cache_type="none")
        return pa.PythonFile(_RangeReader(file, self._url, key, self._errors), mode="r")

    def place(self, key: str) -> tuple[Any, str]:
        """Returns the file system and the object's path there."""
        return self._system, self._path(key)

    def remove(self, key: str) -> None:
        """Removes an object where it exists."""
        path = self._path(key)
        with store_errors(self._url, key, "remove", self._errors):
            try:
                self._system.rm_file(path)
            except FileNotFoundError:
                return

    def remove_empty(self, prefix: str) -> None:
        """An object store has no folders."""

    def _path(self, key: str) -> str:
        return f"{self._base}/{checked_key(key)}"

    def _put_if_absent(self, path: str, data: bytes) -> None:
        # One request, however large: the condition of an upload in parts is only checked at its
        # end, and not by every service.
        self._system.pipe_file(path, data, mode="create", chunksize=len(data) + 1)


class _RangeReader:
    """An open object whose failures name it, so that they are not taken for damaged bytes."""

    def __init__(self, file: Any, url: str, key: str, errors: tuple[type[Exception], ...]) -> None:
        self._file = file
        self._place = (url, key, "read", errors)

    def read(self, size: int = -1) -> bytes:
        with store_errors(*self._place):
            data: bytes = self._file.read(size)
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)


def time_in(entry: Mapping[str, Any]) -> float | None:
    """Returns when an object was written, by what a file system tells of it."""
    times = (entry[name] for name in _TIMES if entry.get(name) is not None)
    return next(filter(None, map(_seconds, times)), None)


def _seconds(when: Any) -> float | None:
    """Reads a time as one of the file systems gives it."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        # What has no zone is of fsspec's own file systems, which mean UTC.
        return when.timestamp() if when.tzinfo else when.replace(tzinfo=UTC).timestamp()
    return float(when) if isinstance(when, int | float) else None
