"""Finds the elements of a large JSON array, a buffer at a time."""

import re
from collections.abc import Iterator

from embedkit.corpus.compression import ByteStream, DamagedFileError
from embedkit.corpus.lines import HEAD, Damage, Lines, LongRecord

_STRUCTURE = re.compile(rb'["{}\[\],]')
_INSIDE = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
"""What stands in a string, which has no line end in JSON."""
_BATCH_BYTES = 1 << 20
_BATCH_ROWS = 4096


def iter_elements(stream: ByteStream, max_bytes: int, end: int | None = None) -> Iterator[Lines]:
    """Reads the elements of an array in batches; ``starts`` are their numbers from 0.

    An element with a string that does not end in its line is given as it is up to there, and the
    next one begins with the next object.

    Args:
        stream: Begins with the array.
        max_bytes: A longer element is passed over without being held.
        end: Byte of the stream behind which no element begins that is read; None for all of it.
    """
    batch, size, number = Lines(), 0, 0
    scanner = _Scanner(max_bytes)
    for element in scanner.elements(stream):
        if end is not None and scanner.begin >= end:
            break
        if isinstance(element, bytes):
            batch.starts.append(number)
            batch.lines.append(element)
            size += len(element)
        elif isinstance(element, LongRecord):
            batch.long = element._replace(start=number, number=number + 1)
        else:
            batch.damage = element._replace(start=number, number=number + 1)
        number += 1
        if batch.long or batch.damage or size > _BATCH_BYTES or len(batch.lines) == _BATCH_ROWS:
            yield batch
            batch, size = Lines(), 0
    yield batch


class _Scanner:
    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._data = b""
        self._before = 0
        """Bytes of the stream before the data."""
        self._at = 0
        """Up to here the data are scanned."""
        self._begin = 0
        """Here the element under way begins."""
        self._depth = 0
        self._inside = False
        self._broken = False
        """Whether what is scanned is the rest of an element that was given already."""
        self._closed = False
        self._head: bytes | None = None
        """The beginning of the element under way, where that is too long to be held."""

    @property
    def begin(self) -> int:
        """Where in the stream the element begins that was given last."""
        return self._before + self._begin

    def elements(self, stream: ByteStream) -> Iterator[bytes | LongRecord | Damage]:
        try:
            while piece := stream.read():
                self._before += self._begin
                self._data = self._data[self._begin :] + piece
                self._at, self._begin = self._at - self._begin, 0
                yield from self._scan()
                if self._closed and self._data[self._begin :].strip():
                    yield Damage(0, "text stands behind the end of the array")
                    return
                if self._at - self._begin > self._max:
                    self._head = self._head or self._data[self._begin :][:HEAD].lstrip()
                    self._begin = self._at
        except DamagedFileError as error:
            yield Damage(0, str(error), error.complete and self._closed)
            return
        if not self._closed:
            yield Damage(0, "the array has no end")

    def _scan(self) -> Iterator[bytes | LongRecord]:
        while self._at < len(self._data) and not self._closed:
            if not self._inside:
                found = _STRUCTURE.search(self._data, self._at)
                self._at = found.end() if found else len(self._data)
                if found:
                    yield from self._take(found[0])
                continue
            self._at = _INSIDE.match(self._data, self._at).end()  # type: ignore[union-attr]
            rest = self._data[self._at : self._at + 2]
            if rest[:1] == b'"':
                self._at += 1
                self._inside = False
            elif rest in (b"", b"\\"):
                return
            else:
                yield from self._break()

    def _take(self, mark: bytes) -> Iterator[bytes | LongRecord]:
        if mark == b'"':
            self._inside = True
        elif mark in b"{[":
            self._depth += 1
            if self._depth == 1:
                self._begin = self._at
            elif self._broken and self._depth == 2 and mark == b"{":
                self._begin, self._broken = self._at - 1, False
        elif mark == b",":
            if self._depth == 1:
                yield from self._end()
        elif mark == b"]" or self._depth > 1:
            self._depth -= 1
            self._closed = self._depth == 0
            if self._closed and (self._head or self._data[self._begin : self._at - 1].strip()):
                yield from self._end()
            if self._closed:
                self._begin = self._at

    def _end(self) -> Iterator[bytes | LongRecord]:
        element = self._data[self._begin : self._at - 1]
        if self._head is not None or len(element) > self._max:
            yield LongRecord(0, self._head or element[:HEAD], 0)
        elif not self._broken:
            yield element.strip()
        self._begin, self._head = self._at, None

    def _break(self) -> Iterator[bytes | LongRecord]:
        self._at += 1
        if not self._broken:
            yield from self._end()
        self._begin, self._depth, self._inside, self._broken = self._at, 1, False, True
