"""Opens inputs, and notices when they are no longer what was planned."""

import io
import os
import stat
from contextlib import suppress
from typing import Any, BinaryIO, cast

from fsspec.asyn import AsyncFileSystem

from embedkit.corpus.locations import Location, locate
from embedkit.corpus.raw_file import RawFile, input_errors
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

FETCH_BYTES = 8 << 20
"""Bytes that one request to a remote store asks for."""
_SMALL = 1 << 16
"""A file of a store that is no larger is read by one request, and looked at once behind it."""
_BEHIND = 1 << 18
"""What is asked for at a time behind a range, where its last record ends."""
_FIRST_BYTES = 512
_ETAGS = ("ETag", "etag", "generation", "md5Hash", "Content-MD5", "md5")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")


def open_input(file: FileRange, fetch: int | None = None) -> BinaryIO:
    """Opens a file for reading, from its first byte, unbuffered where it is local.

    What is read of it is what was planned: a file that is cut, written to, replaced or deleted
    meanwhile is noticed with the next read, and at the latest when the file is closed.

    Args:
        file: The file.
        fetch: Bytes that one request to a remote store asks for at least, where few bytes are
            wanted here and there.

    Raises:
        InputError: It is gone, cannot be read, or is not the one that was planned. Reading and
            closing it raise the same.
    """
    with input_errors(file.url, "opened", file.opened_as):
        opened = (
            _Local(file)
            if os.path.isabs(file.url)
            else _Remote(_Requests(file), fetch or FETCH_BYTES)
        )
    return cast(BinaryIO, RawFile(opened, file.opened_as))


def first_bytes(file: FileRange) -> bytes:
    """Returns the first half a kilobyte of a file, by one request where its store allows.

    Raises:
        InputError: It is gone or cannot be read.
    """
    local = os.path.isabs(file.url)
    if local:
        # What fails is tried once more, where it is said what.
        with suppress(OSError):
            return _local_head(file)
    with input_errors(file.url, "opened", file.opened_as):
        if not local and _gives_ranges(place := locate(file.opened_as)):
            # Whether it is what was listed is seen when it is read.
            end = min(_FIRST_BYTES, file.size)
            head: bytes = place.filesystem.cat_file(place.path, start=0, end=end)
            return head
        opened = _Local(file) if local else _Remote(_Requests(file), _FIRST_BYTES)
    raw = RawFile(opened, file.opened_as)
    try:
        return raw.read(_FIRST_BYTES)
    finally:
        raw.close()


def _local_head(file: FileRange) -> bytes:
    """Returns the beginning of a local file by as few calls as there can be.

    Of a million small files, each call more takes seconds.
    """
    descriptor = _open_without_waiting(file.url, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_is_planned(file, os.fstat(descriptor))
        return os.read(descriptor, _FIRST_BYTES)
    finally:
        os.close(descriptor)


def announce(file: FileRange) -> None:
    """Has the system begin to read the first bytes of a local file, and does not wait for them."""
    if os.path.isabs(file.url) and hasattr(os, "posix_fadvise"):
        # What fails is told by what reads the file.
        with suppress(OSError):
            descriptor = _open_without_waiting(file.url, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, _FIRST_BYTES, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(descriptor)


def is_one_request(file: FileRange) -> bool:
    """Whether a file is so small that its store gives all of it at once."""
    if os.path.isabs(file.url) or not 0 < file.size <= _SMALL:
        return False
    return _gives_ranges(locate(file.opened_as))


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


def check_not_encoded(url: str, info: dict[str, Any]) -> None:
    """Refuses what a store unpacks on the way, so that it cannot be read in pieces.

    Args:
        url: The file.
        info: What the store says of it.

    Raises:
        InputError: It does.
    """
    if encoding := info.get("contentEncoding"):
        raise InputError(
            f"{url}: is stored with Content-Encoding {str(encoding)[:40]}, which is taken "
            "off on the way, so that it cannot be read in pieces; clear that in its store "
            "(gcloud storage objects update --clear-content-encoding)"
        )


def _gives_ranges(place: Location) -> bool:
    """Whether one request gives any range of a file, without a look at the file before."""
    return isinstance(place.filesystem, AsyncFileSystem) and not place.is_http


class _Local(io.FileIO):
    """A local file, looked at again behind every read."""

    def __init__(self, file: FileRange) -> None:
        super().__init__(file.url, "rb", opener=_open_without_waiting)
        self._file = file
        self._status = os.fstat(self.fileno())
        try:
            _check_is_planned(file, self._status)
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


def _check_is_planned(file: FileRange, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{file.url}: not a regular file any more; restore the file")
    _check_planned(file, status.st_size, local_etag(status))


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
        self._by_ranges = _gives_ranges(place)
        self._opened: Any = None
        self._before: tuple[int, str, str] | None = None
        self._whole: bytes | None = None
        self._place = 0
        if not self._by_ranges or file.size > FETCH_BYTES:
            # Of a smaller one, the look behind the one request for it tells the same.
            self._look()
        if not self._by_ranges:
            self._opened = self._filesystem.open(
                self._path, "rb", block_size=FETCH_BYTES, cache_type="none"
            )

    def check(self) -> None:
        if self._whole is not None:
            # All of it was read at once, so what becomes of it later harms nothing.
            return
        try:
            self._look()
        except FileNotFoundError as error:
            if self._before is None:
                raise InputError(f"{self._file.url}: no such file; check the inputs") from error
            raise _changed(self._file, "was deleted") from error

    def _look(self) -> None:
        self._filesystem.invalidate_cache(self._filesystem._parent(self._path))
        info: dict[str, Any] = self._filesystem.info(self._path)
        if self._before is None:
            _check_planned(self._file, int(info["size"]), remote_etag(info))
            check_not_encoded(self._file.url, info)
            self._before = _content(info)
        elif _content(info) != self._before:
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
        wanted = min(len(buffer), self._left())
        if wanted <= 0:
            return 0
        data = self._read_at(self._place, wanted)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _left(self) -> int:
        """Returns how many bytes to ask for at most: to the range's end, and a few behind it."""
        left = self._file.size - self._place
        if self._file.format == "parquet" or self._file.end >= self._file.size:
            return left
        return min(left, max(self._file.end - self._place, _BEHIND))

    def _read_at(self, place: int, wanted: int) -> bytes:
        if self._whole is None and self._by_ranges and self._file.size <= _SMALL:
            self._whole = self._checked(self._range(0, self._file.size), 0, self._file.size)
        if self._whole is not None:
            return self._whole[place : place + wanted]
        data = self._range(place, wanted) if self._by_ranges else self._read_here(wanted)
        return self._checked(data, place, wanted)

    def _checked(self, data: bytes, place: int, wanted: int) -> bytes:
        self.check()
        if not 0 < len(data) <= wanted:
            raise InputError(
                f"{self._file.url}: its store gives {len(data)} bytes from {place} on, where "
                f"{wanted} are due; see that it serves ranges of the file as it is stored"
            )
        return data

    def _range(self, place: int, wanted: int) -> bytes:
        data: bytes = self._filesystem.cat_file(self._path, start=place, end=place + wanted)
        return data

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
            if not self._opened.read(min(before, FETCH_BYTES)):
                return b""
        data = self._opened.read(wanted)
        return data

    def _stream(self) -> None:
        self._opened.close()
        self._opened = self._filesystem.open(self._path, "rb", block_size=0)

    def close(self) -> None:
        if not self.closed and self._opened is not None:
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
