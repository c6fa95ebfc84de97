"""The bytes of a file, decompressed where it is compressed, whatever its name."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from embedkit.corpus.members import (
    BehindTheEndError,
    BrokenMemberError,
    Members,
    UnreadableError,
)
from embedkit.errors import InputError

_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
)
_BUFFER = 1 << 20


@contextmanager
def open_contents(file: Path) -> Iterator[io.BufferedReader]:
    """Opens a file; ``peek`` shows the first bytes of what it holds.

    Raises:
        InputError: It does not exist, is no regular file, or cannot be read.
    """
    if not file.is_file():
        other = "no regular file" if file.exists() else "no such file"
        what = "a directory" if file.is_dir() else other
        raise InputError(f"{file}: {what}; name a file of word vectors")
    try:
        with file.open("rb") as raw:
            head = raw.read(6)
            raw.seek(0)
            found = next((name for mark, name in _COMPRESSIONS if head.startswith(mark)), None)
            source = raw if found is None else _Unpacked(file, Members(raw, found))
            contents = io.BufferedReader(cast(Any, source), _BUFFER)
            if contents.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):
                # Else it would be part of the first word.
                contents.read(len(codecs.BOM_UTF8))
            yield contents
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error


class _Unpacked(io.RawIOBase):
    """What is in a compressed file; a buffer that asks for bytes gets as many as it asks for."""

    def __init__(self, file: Path, members: Members) -> None:
        self._file = file
        self._members = members
        self._left = b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer, as far as there is something."""
        done = 0
        while done < len(buffer):
            self._left = self._left or self._read()
            if not self._left:
                break
            some = self._left[: len(buffer) - done]
            buffer[done : done + len(some)] = some
            self._left = self._left[len(some) :]
            done += len(some)
        return done

    def _read(self) -> bytes:
        try:
            return self._members.read()
        except (EOFError, BehindTheEndError, BrokenMemberError, UnreadableError) as error:
            raise InputError(
                f"{self._file}: cannot be unpacked to its end ({error or 'it ends early'}); "
                "download it again"
            ) from error


def line_of(contents: BinaryIO, file: Path, number: int, most: int = 1 << 24) -> bytes:
    """Reads a line, with its end.

    Raises:
        InputError: It is far too long.
    """
    line = contents.readline(most)
    if len(line) == most:
        raise InputError(f"{file}: line {number} has more than {most:,} bytes; no file of words")
    return line
