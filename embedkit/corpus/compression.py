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
_ZSTD_WINDOW = 1 << 31
"""What zstd --long=31 makes, as large dumps are packed; it takes memory as it fills."""
_ZSTD_BEGINNING = b"\x28\xb5\x2f\xfd"
_XZ_MEMORY = 512 << 20
"""Most memory that unpacking an xz file takes; xz -9 takes 65 MiB."""


class DamagedFileError(Exception):
    """A compressed stream ends early or makes no sense; what came before it is good.

    Attributes:
        complete: Whether what came before ended as it should, with something else behind its end.
    """

    def __init__(self, detail: str, complete: bool = False) -> None:
        super().__init__(detail)
        self.complete = complete


class _BehindTheEndError(Exception):
    """What follows a complete stream is no other stream."""


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
        except _BehindTheEndError as error:
            raise DamagedFileError(str(error), complete=True) from error
        except _UnreadableError as error:
            raise InputError(f"{self._file.url}: {error}") from error
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
    begun = False

    def read() -> bytes:
        nonlocal begun
        try:
            piece = opened.read1(_PIECE)
        except gzip.BadGzipFile as error:
            if begun and str(error).startswith("Not a gzipped file"):
                raise _BehindTheEndError("what follows the end of its data is no gzip") from error
            raise
        begun = True
        return piece

    return read


def _bz2(raw: BinaryIO) -> Callable[[], bytes]:
    opened = bz2.BZ2File(raw, "rb")
    return lambda: opened.read1(_PIECE)


class _UnreadableError(Exception):
    """The data are not damaged, but cannot be unpacked here."""


class _Xz:
    """Reads streams with bounded memory; Python's own reader of xz files has no limit for it."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._stream: lzma.LZMADecompressor | None = None
        self._rest = b""
        self._begun = False

    def __call__(self) -> bytes:
        piece = b""
        while not piece:
            stream = self._stream
            if stream is None or stream.needs_input:
                data = self._rest or self._raw.read(_PIECE)
                self._rest = b""
                if not data:
                    break
            else:
                data = b""
            piece = self._unpack(data)
        if not piece and self._stream is not None:
            raise EOFError("compressed file ended before the end-of-stream marker was reached")
        return piece

    def _unpack(self, data: bytes) -> bytes:
        if self._stream is None:
            # Streams may be padded with zeros.
            data = data.lstrip(b"\0")
            if not data:
                return b""
            self._stream = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
            begins = True
        else:
            begins = False
        try:
            piece = self._stream.decompress(data, _PIECE)
        except lzma.LZMAError as error:
            if "memory" in str(error).lower():
                raise _UnreadableError(
                    f"its xz dictionary takes more than {_XZ_MEMORY >> 20} MiB to unpack; unpack "
                    "it with xz -dk, or compress it anew with xz -9"
                ) from error
            if begins and self._begun:
                self._stream = None
                raise _BehindTheEndError("what follows the end of its data is no xz") from error
            raise
        self._begun = True
        if self._stream.eof:
            self._rest = self._stream.unused_data
            self._stream = None
        return piece


class _Zstd:
    """Reads frames; zstandard's own reader takes a frame that is cut off for one that ends."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._waiting = b""
        self._place = 0
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._begun = False

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
        frame = self._frame or _zstd_frame()
        try:
            piece: bytes = frame.decompress(data)
        except zstandard.ZstdError as error:
            if "Dictionary mismatch" in str(error):
                raise _UnreadableError(
                    "was compressed with a zstd dictionary of its own, which is not read; unpack "
                    "it with zstd -d -D DICTIONARY"
                ) from error
            if self._frame is None and self._begun and not data.startswith(_ZSTD_BEGINNING):
                raise _BehindTheEndError("what follows the end of its data is no zstd") from error
            raise
        self._begun = True
        self._place += len(data) - len(frame.unused_data)
        self._frame = None if frame.eof else frame
        return piece


def _zstd_frame() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()


_DAMAGES = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
_READERS: dict[str, Callable[[BinaryIO], Callable[[], bytes]]] = {
    "gzip": _gzip,
    "bz2": _bz2,
    "xz": _Xz,
    "zstd": _Zstd,
}
