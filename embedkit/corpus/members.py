"""Decompresses files of several members, one behind the other, perhaps with padding.

gzip calls a piece that can be unpacked by itself a member, bz2 and xz a stream, zstd a frame.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import zstandard

_PIECE = 1 << 16
_FIRST_BITE = 1 << 10
"""Bytes that a member gets first, then twice as many each time: most of it may be the next's."""
_ZSTD_FEED = 256
"""Compressed bytes at a time: 4 of them can unpack to 128 KiB."""
_ZSTD_WINDOW = 1 << 31
"""What zstd --long=31 makes, as large dumps are packed; it takes memory as it fills."""
_XZ_MEMORY = 512 << 20
"""Most memory that unpacking an xz file takes; xz -9 takes 65 MiB."""
_BGZF = slice(12, 14)
"""Where members of a blocked gzip file (bgzip) name themselves; the last one has no data."""
_HEAD = 14


class BehindTheEndError(Exception):
    """What follows a complete member is no other one."""


class BrokenMemberError(Exception):
    """A member is there, or should be, and cannot be read."""


class UnreadableError(Exception):
    """The data are not damaged, but cannot be unpacked here."""


class _Member(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Codec:
    """A compression.

    Attributes:
        name: What it is called.
        begin: Makes what unpacks one member.
        marks: How members begin; all of one length.
    """

    name: str
    begin: Callable[[], _Member]
    marks: tuple[bytes, ...]

    def begins(self, head: bytes) -> bool:
        """Whether a member begins so; the beginning of a mark counts where there is no more."""
        return any(head[: len(mark)] == mark[: len(head)] for mark in self.marks)

    def resembles(self, head: bytes) -> bool:
        """Whether all but one byte are those of a mark."""
        pairs = (list(zip(mark, head, strict=False)) for mark in self.marks)
        return any(sum(a == b for a, b in pair) >= len(self.marks[0]) - 1 for pair in pairs)


class Members:
    """Unpacks the members of a file.

    Zeros between members and behind the last one are padding. Where a member breaks, all that can
    be unpacked before comes first.

    Args:
        raw: The file, at its beginning.
        compression: ``gzip``, ``zstd``, ``bz2`` or ``xz``.
    """

    def __init__(self, raw: BinaryIO, compression: str) -> None:
        self._raw = raw
        self._codec = _CODECS[compression]
        self._held = b""
        self._place = 0
        self._offset = 0
        """Where in the file what is held begins."""
        self._member: _Member | None = None
        self._start = 0
        """Where in the file the member under way begins."""
        self._bite = b""
        self._size = _FIRST_BITE
        self._unpacked = 0
        """Bytes that the member under way, or the last one, has given."""
        self._begun = self._blocked = False
        self._error: Exception | None = None

    def read(self) -> bytes:
        """Returns the next piece, empty at the end.

        Raises:
            EOFError: The file ends within a member.
            BrokenMemberError: A member is damaged.
            BehindTheEndError: What follows the last member is none.
            UnreadableError: A member takes too much memory, or a dictionary that is not there.
        """
        piece = b""
        while not piece and (self._member or self._next()):
            piece = self._unpack()
        return piece

    def _next(self) -> bool:
        """Begins the next member; False at the end of the file."""
        padded = self._begun and self._skip_zeros()
        head = self._peek(_HEAD)
        codec = self._codec
        if self._begun and head and not codec.begins(head):
            if codec.resembles(head) or padded or self._lacks_end():
                raise BrokenMemberError(f"what follows is no {codec.name}")
            raise BehindTheEndError(f"what follows the end of its data is no {codec.name}")
        if not head:
            if self._lacks_end():
                raise EOFError("its blocks end without the empty one that marks their end")
            return False
        if not self._begun:
            self._blocked = codec.name == "gzip" and head[3:4] == b"\x04" and head[_BGZF] == b"BC"
        self._start = self._offset + self._place
        self._member, self._begun = codec.begin(), True
        self._unpacked, self._size = 0, _FIRST_BITE
        return True

    def _lacks_end(self) -> bool:
        return self._blocked and self._unpacked > 0

    def _skip_zeros(self) -> bool:
        skipped = False
        while self._peek(1) == b"\0":
            self._place = len(self._held) - len(self._held[self._place :].lstrip(b"\0"))
            skipped = True
        return skipped

    def _peek(self, size: int) -> bytes:
        while len(self._held) - self._place < size:
            more = self._raw.read(_PIECE)
            if not more:
                break
            self._offset += self._place
            self._held, self._place = self._held[self._place :] + more, 0
        return self._held[self._place : self._place + size]

    def _unpack(self) -> bytes:
        if self._error:
            raise self._error
        member = self._member
        assert member is not None
        data = b""
        if member.needs_input:
            data = self._bite = self._peek(1) and self._held[self._place :][: self._size]
            if not data:
                raise EOFError("the file ends before the end of its data")
            self._place += len(data)
            self._size = min(2 * self._size, _PIECE)
        try:
            piece = member.decompress(data, _PIECE)
        except _FAILURES as error:
            self._error = _translated(error)
            return self._before_the_damage()
        self._unpacked += len(piece)
        if member.eof:
            self._place -= len(member.unused_data)
            self._member = None
        return piece

    def _before_the_damage(self) -> bytes:
        """Unpacks the broken member again, a byte at a time near the damage.

        What a decompressor had unpacked when it met the damage is lost with that call of it.
        """
        member, passed, pieces = self._codec.begin(), 0, []
        again = self._from_start()
        try:
            while not member.eof:
                data = next(again, b"") if member.needs_input else b""
                if not data and member.needs_input:
                    break
                piece = member.decompress(data, _PIECE)
                pieces.append(piece[max(0, self._unpacked - passed) :])
                passed += len(piece)
        except _FAILURES:
            pass
        return b"".join(pieces)

    def _from_start(self) -> Iterator[bytes]:
        self._raw.seek(self._start)
        left = self._offset + self._place - len(self._bite) - self._start
        while left and (data := self._raw.read(min(left, _PIECE))):
            yield data
            left -= len(data)
        for byte in self._bite:
            yield bytes((byte,))


class _GzipMember:
    def __init__(self) -> None:
        self._opened = zlib.decompressobj(31)
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        opened = self._opened
        piece = opened.decompress(data or opened.unconsumed_tail, max_length)
        self.needs_input = not opened.unconsumed_tail and len(piece) < max_length
        self.eof, self.unused_data = opened.eof, opened.unused_data
        return piece


class _ZstdFrame:
    def __init__(self) -> None:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._opened = unpacker.decompressobj()
        self._data = b""
        self._place = 0
        self.needs_input = True
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, _: int, /) -> bytes:
        if data:
            self._data, self._place = data, 0
        piece: bytes = self._opened.decompress(self._data[self._place : self._place + _ZSTD_FEED])
        self._place += _ZSTD_FEED
        self.needs_input = self._place >= len(self._data)
        self.eof = self._opened.eof
        if self.eof:
            self.unused_data = self._opened.unused_data + self._data[self._place :]
        return piece


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_MEMORY)


def _translated(error: Exception) -> Exception:
    said = str(error).strip() or type(error).__name__
    if isinstance(error, lzma.LZMAError) and "memory" in said.lower():
        return UnreadableError(
            f"its xz dictionary takes more than {_XZ_MEMORY >> 20} MiB to unpack; unpack it with "
            "xz -dk, or compress it anew with xz -9"
        )
    if "Dictionary mismatch" in said:
        return UnreadableError(
            "was compressed with a zstd dictionary of its own, which is not read; unpack it with "
            "zstd -d -D DICTIONARY"
        )
    return BrokenMemberError(f"{said}; what was read of it may be wrong as well")


_FAILURES = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError)
_CODECS = {
    one.name: one
    for one in (
        _Codec("gzip", _GzipMember, (b"\x1f\x8b\x08",)),
        _Codec("bz2", bz2.BZ2Decompressor, (b"BZh",)),
        _Codec("xz", _xz_stream, (b"\xfd7zXZ\0", b"\x5d\0\0")),
        _Codec(
            "zstd",
            _ZstdFrame,
            (b"\x28\xb5\x2f\xfd", *(bytes((n,)) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))),
        ),
    )
}
