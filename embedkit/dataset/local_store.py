"""A directory as a store: written aside, synced, and linked to its name only if that is free."""

import errno
import os
import secrets
import stat
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any

import pyarrow as pa

from embedkit.dataset.store_keys import AskedKeys, checked_key, store_errors

TEMPORARY = ".tmp"
_STALE_SECONDS = 3600.0
_NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""What is answered where a second name for a file is refused, and a second file may be made."""


class LocalStore:
    """Objects as files below one directory, which is made when it is first written to.

    ``create`` relies on ``link`` failing where the name exists, which holds on local and network
    file systems alike; ``rename`` would replace the file of another attempt.
    """

    def __init__(self, root: str) -> None:
        self._root = root

    @property
    def url(self) -> str:
        """The directory."""
        return self._root

    def create(self, key: str, data: bytes) -> bool:
        """Creates a file that becomes visible whole, unless the name is taken."""
        with store_errors(self._root, key, "create"):
            path = self._writable(key)
            temporary = self._written_aside(data)
            try:
                os.link(temporary, path)
                created = True
            except FileExistsError:
                created = False
            finally:
                os.unlink(temporary)
            # Also where another attempt made the name: what is built on it must not outlive it.
            _sync_directory(os.path.dirname(path))
        return created

    def copy(self, source: str, key: str) -> bool:
        """Gives a file a second name, unless that is taken; where links are refused, a copy."""
        with store_errors(self._root, key, "copy", missing=True):
            origin, path = self._path(source), self._writable(key)
            # A link to a symbolic link would need what that leads to.
            if os.path.islink(origin):
                return self.create(key, self.read(source))
            try:
                os.link(origin, path)
                created = True
            except FileExistsError:
                created = False
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                return self.create(key, self.read(source))
            _sync_directory(os.path.dirname(path))
        return created

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces a file; readers see the old one or the new one, whole."""
        with store_errors(self._root, key, "replace"):
            path = self._writable(key)
            temporary = self._written_aside(data)
            try:
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)
                raise
            _sync_directory(os.path.dirname(path))

    def read(self, key: str) -> bytes:
        """Returns a file's bytes."""
        with store_errors(self._root, key, "read", missing=True), open(self._path(key), "rb") as f:
            return f.read()

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, or None where there is no such file."""
        with store_errors(self._root, key, "look for"):
            try:
                found = os.stat(self._path(key))
            except FileNotFoundError:
                return None
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(key)
            return found.st_size

    def modified(self, key: str) -> float | None:
        """Returns when a file was last written, or None where there is no such file."""
        with store_errors(self._root, key, "look for"):
            try:
                return os.stat(self._path(key)).st_mtime
            except FileNotFoundError:
                return None

    def list(self, prefix: str) -> Iterator[str]:
        """Yields the keys of the files below a prefix, sorted; temporary files are left out."""
        with store_errors(self._root, prefix, "list"):
            found = sorted(_files(os.path.join(self._root, prefix), prefix))
        for key in found:
            if prefix or not key.startswith(f"{TEMPORARY}/"):
                yield key

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields the same keys with their sizes; of a file that goes meanwhile, nothing."""
        for key in self.list(prefix):
            size = self.size(key)
            if size is not None:
                yield key, size

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the same keys with sizes and when each was written last.

        Keys that no object may have are among them, and links as they are themselves.
        """
        for key in self.list(prefix):
            with store_errors(self._root, key, "look for"):
                try:
                    found = os.lstat(os.path.join(self._root, *key.split("/")))
                except FileNotFoundError:
                    continue
            yield key, found.st_size, found.st_mtime

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix, looked for one by one.

        A directory is only ever listed whole, however few names are wanted.
        """
        return AskedKeys(prefix, self.size)

    def folders(self) -> Sequence[str]:
        """Returns the names of the folders directly below the root, sorted."""
        with store_errors(self._root, "", "list"):
            try:
                with os.scandir(self._root) as entries:
                    return sorted(entry.name for entry in entries if entry.is_dir())
            except FileNotFoundError:
                return []

    def open(self, key: str) -> Any:
        """Opens a file for random access."""
        with store_errors(self._root, key, "open", missing=True):
            path = self._path(key)
            if os.path.isdir(path):
                raise IsADirectoryError(key)
            return pa.OSFile(path)

    def place(self, key: str) -> tuple[Any, str]:
        """Returns None for a file system, and the file's path."""
        return None, self._path(key)

    def remove(self, key: str) -> None:
        """Removes a file where it exists."""
        with store_errors(self._root, key, "remove"):
            try:
                os.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return

    def remove_empty(self, prefix: str) -> None:
        """Removes the folders below a prefix that hold nothing, and its own."""
        with store_errors(self._root, prefix, "remove"):
            for folder, _, _ in os.walk(os.path.join(self._root, prefix), topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    # Something is in it, or another process was quicker.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise

    def sweep(self) -> None:
        """Removes temporary files that killed processes left.

        A writer that is still alive after that long sees its link fail and tries again.
        """
        oldest = time.time() - _STALE_SECONDS
        with store_errors(self._root, TEMPORARY, "sweep"):
            for key in _files(os.path.join(self._root, TEMPORARY), f"{TEMPORARY}/"):
                path = os.path.join(self._root, key)
                try:
                    if os.stat(path).st_mtime < oldest:
                        os.unlink(path)
                except FileNotFoundError:
                    continue

    def _path(self, key: str) -> str:
        return os.path.join(self._root, *checked_key(key).split("/"))

    def _writable(self, key: str) -> str:
        path = self._path(key)
        _make_directory(os.path.dirname(path))
        return path

    def _written_aside(self, data: bytes) -> str:
        folder = os.path.join(self._root, TEMPORARY)
        _make_directory(folder)
        path = os.path.join(folder, f"{os.getpid()}-{secrets.token_hex(8)}")
        try:
            with open(path, "xb", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                os.fsync(file.fileno())
        except OSError:
            if os.path.exists(path):
                os.unlink(path)
            raise
        return path


def _files(folder: str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name


def _make_directory(folder: str) -> None:
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_directory(parent)
    os.makedirs(folder, exist_ok=True)
    _sync_directory(parent)


def _sync_directory(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
