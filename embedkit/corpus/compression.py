"""Streams of a file's content, decompressed up to a ceiling."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

import zstandard

from embedkit.corpus.opening import open_input
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

_PIECE = 1 << 16
_PLAIN_PIECE = 1 << 18
_ZSTD_FEED = 256
"""Compressed bytes at a time: 4 of them can unpack to 128 KiB."""


class DamagedFileError(Exception):
    """A compressed stream ends early or makes no sense; what came before it is good."""


class ByteStream(Protocol):
    """A source of bytes."""

    def read(self) -> bytes:
        """Returns the next piece, empty at the end.

        Raises:
            DamagedFileError: The file is damaged here.
            InputError: The file unpacks to more than it may.
        """
        ...


class _Plain:
    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw

    def read(self) -> bytes:
        return self._raw.read(_PLAIN_PIECE)


class _Decompressed:
    """Reads one piece at a time, so that a piece read before the damage is never lost."""

    def __init__(self, raw: BinaryIO, file: FileRange, limit: int) -> None:
        self._read = _READERS[file.compression](raw) if file.size else bytes
        self._file = file
        self._left = limit
        self._limit = limit

    def read(self) -> bytes:
        try:
            piece = self._read()
        except _DAMAGES as error:
            raise DamagedFileError(str(error).strip() or type(error).__name__) from error
        self._left -= len(piece)
        if self._left < 0:
            raise InputError(
                f"{self._file.url}: unpacks to more than {self._limit} bytes; if that is right, "
                "raise --max-decompressed-bytes"
            )
        return piece


@contextmanager
def open_stream(
    file: FileRange, max_decompressed_bytes: int, start: int = 0
) -> Iterator[ByteStream]:
    """Opens the content of a file, decompressed.

    Args:
        file: The file; of a compressed one, the bytes before its ``end`` are read.
        max_decompressed_bytes: Most bytes that a compressed file may unpack to.
        start: Where to begin, which only a plain file can do elsewhere than at 0.

    Raises:
        InputError: The file cannot be opened or changed since the plan.
    """
    with open_input(file) as raw:
        if file.compression != "none":
            begun = file.end < file.size
            source = cast(BinaryIO, io.BytesIO(raw.read(file.end))) if begun else raw
            yield _Decompressed(source, file, max_decompressed_bytes)
        else:
            raw.seek(start)
            yield _Plain(raw)


def _gzip(raw: BinaryIO) -> Callable[[], bytes]:
    opened = gzip.GzipFile(fileobj=raw, mode="rb")
    return lambda: opened.read1(_PIECE)


def _bz2(raw: BinaryIO) -> Callable[[], bytes]:
    opened = bz2.BZ2File(raw, "rb")
    return lambda: opened.read1(_PIECE)


def _xz(raw: BinaryIO) -> Callable[[], bytes]:
    opened = lzma.LZMAFile(raw, "rb")
    return lambda: opened.read1(_PIECE)


class _Zstd:
    """Reads frames; zstandard's own reader takes a frame that is cut off for one that ends."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._waiting = b""
        self._place = 0
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def __call__(self) -> bytes:
        piece = b""
        while not piece:
            if self._place >= len(self._waiting):
                self._waiting, self._place = self._raw.read(_PIECE), 0
                if not self._waiting:
                    break
            piece = self._unpack(self._waiting[self._place : self._place + _ZSTD_FEED])
        if not piece and self._frame is not None:
            raise EOFError("compressed file ended before the end of its last frame")
        return piece

    def _unpack(self, data: bytes) -> bytes:
        frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
        piece: bytes = frame.decompress(data)
        self._place += len(data) - len(frame.unused_data)
        self._frame = None if frame.eof else frame
        return piece


_DAMAGES = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_READERS: dict[str, Callable[[BinaryIO], Callable[[], bytes]]] = {
    "gzip": _gzip,
    "bz2": _bz2,
    "xz": _xz,
    "zstd": _Zstd,
}
