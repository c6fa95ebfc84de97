"""Decompresses files as streams, up to a limit."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

from embedkit.corpus.members import (
    BehindTheEndError,
    BrokenMemberError,
    Members,
    UnreadableError,
)
from embedkit.corpus.opening import open_input
from embedkit.corpus.splits import FileRange
from embedkit.errors import InputError

_PLAIN_PIECE = 1 << 18


class DamagedFileError(Exception):
    """A compressed stream ends early or makes no sense; what came before it is good.

    Attributes:
        complete: Whether what came before ended as it should, with something else behind its end.
    """

    def __init__(self, detail: str, complete: bool = False) -> None:
        super().__init__(detail)
        self.complete = complete


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
        self._members = Members(raw, file.compression)
        self._file = file
        self._left = limit
        self._limit = limit

    def read(self) -> bytes:
        try:
            piece = self._members.read() if self._file.size else b""
        except BehindTheEndError as error:
            raise DamagedFileError(str(error), complete=True) from error
        except UnreadableError as error:
            raise InputError(f"{self._file.url}: {error}") from error
        except (EOFError, BrokenMemberError) as error:
            raise DamagedFileError(str(error)) from error
        self._left -= len(piece)
        if self._left < 0:
            raise InputError(
                f"{self._file.url}: unpacks to more than {self._limit} bytes; if that is right, "
                "raise --max-decompressed-bytes"
            )
        return piece


@contextmanager
def open_stream(
    file: FileRange, max_decompressed_bytes: int, start: int = 0, fetch: int | None = None
) -> Iterator[ByteStream]:
    """Opens the content of a file, decompressed.

    Args:
        file: The file; of a compressed one, the bytes before its ``end`` are read.
        max_decompressed_bytes: Most bytes that a compressed file may unpack to.
        start: Where to begin, which only a plain file can do elsewhere than at 0.
        fetch: Bytes that one request to a store asks for at least, see ``open_input``.

    Raises:
        InputError: The file cannot be opened or changed since the plan.
    """
    with open_input(file, fetch) as raw:
        if file.compression != "none":
            begun = file.end < file.size
            source = cast(BinaryIO, io.BytesIO(raw.read(file.end))) if begun else raw
            yield _Decompressed(source, file, max_decompressed_bytes)
        else:
            raw.seek(start)
            yield _Plain(raw)
