"""Opening inputs as what was planned, and noticing when they become something else."""

import io
import os
import stat
from typing import Any, BinaryIO, cast

from embedkit.corpus.locations import locate
from embedkit.corpus.raw_file import RawFile, input_errors
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

_FETCH = 8 << 20
"""Bytes that one request to a remote store asks for."""
_FIRST_BYTES = 512
_ETAGS = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "md5")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


def open_input(file: FileRange) -> BinaryIO:
    """Opens a file for reading, from its first byte, unbuffered where it is local.

    What is read of it is what was planned: a file that is cut, written to, replaced or deleted
    meanwhile is noticed with the next read, and at the latest when the file is closed.

    Raises:
        InputError: It is gone, cannot be read, or is not the one that was planned. Reading and
            closing it raise the same.
    """
    with input_errors(file.url, "opened", file.opened_as):
        opened = _Local(file) if os.path.isabs(file.url) else _Remote(_Requests(file), _FETCH)
    return cast(BinaryIO, RawFile(opened, file.opened_as))


def first_bytes(file: FileRange) -> bytes:
    """Returns the first half a kilobyte of a file.

    Raises:
        InputError: It is gone, cannot be read, or is not the one that was listed.
    """
    with input_errors(file.url, "opened", file.opened_as):
        opened = _Local(file) if os.path.isabs(file.url) else _Remote(_Requests(file), _FIRST_BYTES)
    raw = RawFile(opened, file.opened_as)
    try:
        return raw.read(_FIRST_BYTES)
    finally:
        raw.close()


def local_etag(status: os.stat_result) -> str:
    """Returns what tells a local file's content from a later one."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def remote_etag(info: dict[str, Any]) -> str:
    """Returns what tells a remote file's content from a later one, as its store describes it."""
    if etag := store_etag(info):
        return etag
    time = next((info[name] for name in _TIMES if info.get(name)), "")
    return f"{info['size']}-{time}"


def store_etag(info: dict[str, Any]) -> str:
    """Returns the etag, generation or hash that a store gives, or nothing."""
    etag = next((info[name] for name in _ETAGS if info.get(name)), "")
    return str(etag).strip('"')


class _Local(io.FileIO):
    """A local file, looked at again behind every read."""

    def __init__(self, file: FileRange) -> None:
        super().__init__(file.url, "rb", opener=_open_without_waiting)
        self._file = file
        self._status = os.fstat(self.fileno())
        try:
            if not stat.S_ISREG(self._status.st_mode):
                raise InputError(f"{file.url}: not a regular file any more; restore the file")
            _check_planned(file, self._status.st_size, local_etag(self._status))
        except InputError:
            self.close()
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.check()
        return data or b""

    def check(self) -> None:
        """Raises InputError where the file, or what its path leads to, is not what it was."""
        here = os.fstat(self.fileno())
        try:
            there = os.stat(self._file.url)
        except FileNotFoundError as error:
            raise _changed(self._file, "was deleted") from error
        if local_etag(here) != local_etag(self._status):
            raise _changed(
                self._file, f"changed ({self._status.st_size} bytes, now {here.st_size})"
            )
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise _changed(self._file, "changed (another file took its place)")


def _open_without_waiting(path: str, flags: int) -> int:
    # A pipe that took the place of the file would keep an ordinary open waiting for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


class _Remote(io.BufferedReader):
    """A file of a store, looked at again behind every request."""

    def __init__(self, requests: "_Requests", at_once: int) -> None:
        super().__init__(requests, at_once)
        self._requests = requests

    def check(self) -> None:
        """Raises InputError where the store has another file under the name, or none."""
        self._requests.check()


class _Requests(io.RawIOBase):
    def __init__(self, file: FileRange) -> None:
        self._file = file
        place = locate(file.opened_as)
        self._filesystem, self._path = place.filesystem, place.path
        self._is_http, self._in_one_stream = place.is_http, False
        info = self._info()
        _check_planned(file, int(info["size"]), remote_etag(info))
        if encoding := info.get("contentEncoding"):
            raise InputError(
                f"{file.url}: is stored with Content-Encoding {str(encoding)[:40]}, which is taken "
                "off on the way, so that it cannot be read in pieces; clear that in its store "
                "(gcloud storage objects update --clear-content-encoding)"
            )
        self._before = _content(info)
        self._opened = self._filesystem.open(self._path, "rb", block_size=_FETCH, cache_type="none")
        self._place = 0

    def _info(self) -> dict[str, Any]:
        self._filesystem.invalidate_cache(self._filesystem._parent(self._path))
        info: dict[str, Any] = self._filesystem.info(self._path)
        return info

    def check(self) -> None:
        try:
            info = self._info()
        except FileNotFoundError as error:
            raise _changed(self._file, "was deleted") from error
        if _content(info) != self._before:
            raise _changed(self._file, f"changed ({self._file.size} bytes, now {info['size']})")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._file.size}
        self._place = origins[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        wanted = min(len(buffer), self._file.size - self._place)
        if wanted <= 0:
            return 0
        data = self._read_here(wanted)
        self.check()
        if not 0 < len(data) <= wanted:
            raise InputError(
                f"{self._file.url}: its store gives {len(data)} bytes from {self._place} on, where "
                f"{wanted} are due; see that it serves ranges of the file as it is stored"
            )
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _read_here(self, wanted: int) -> bytes:
        if not self._in_one_stream:
            try:
                if self._opened.tell() != self._place:
                    self._opened.seek(self._place)
                data: bytes = self._opened.read(wanted)
                return data
            except ValueError:
                # So fsspec says that a web server gives no ranges of a file.
                if not self._is_http:
                    raise
                self._in_one_stream = True
                self._stream()
        if self._opened.tell() > self._place:
            self._stream()
        while (before := self._place - self._opened.tell()) > 0:
            if not self._opened.read(min(before, _FETCH)):
                return b""
        data = self._opened.read(wanted)
        return data

    def _stream(self) -> None:
        self._opened.close()
        self._opened = self._filesystem.open(self._path, "rb", block_size=0)

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()


def _content(info: dict[str, Any]) -> tuple[int, str, str]:
    # A server without etags may tell a time that is in no plan of an earlier release.
    return int(info["size"]), remote_etag(info), str(info.get("Last-Modified", ""))


def _check_planned(file: FileRange, size: int, etag: str) -> None:
    if (size, etag) != (file.size, file.etag):
        raise InputError(
            f"{file.url}: changed since the plan was made (planned {file.size} bytes, "
            f"{file.etag}; found {size} bytes, {etag}); restore the file, or start a new version"
        )


def _changed(file: FileRange, what: str) -> InputError:
    return InputError(
        f"{file.url}: {what} while it was read; restore the file and run the same command again, "
        "or start a new version when nothing writes to it any more"
    )
