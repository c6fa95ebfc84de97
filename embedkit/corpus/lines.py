"""Lines and paragraphs of a byte stream, found a buffer at a time.

A line belongs to the range in which its first byte stands, so ranges that touch share no line and
lose none, wherever the seam falls. A paragraph is a run of lines that are not blank. Its seam
moves on to the first blank line that begins at or behind it.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from embedkit.corpus.compression import ByteStream, DamagedFileError
from embedkit.records import LineCounts

BOM = b"\xef\xbb\xbf"
HEAD = 1024
"""Bytes that are kept of a record that is too long."""


class LongRecord(NamedTuple):
    """A line or paragraph that is longer than allowed, of which only the beginning was kept."""

    start: int
    head: bytes
    quotes: int
    number: int = 0


class Damage(NamedTuple):
    """The place where a compressed stream broke, as an offset in what it unpacks to.

    Attributes:
        start: The offset.
        detail: What is wrong.
        complete: Whether the stream had come to its end, and something else follows it.
    """

    start: int
    detail: str
    complete: bool = False
    number: int = 0


@dataclass
class Lines:
    """Consecutive lines.

    Attributes:
        starts: Offset of each line's first byte.
        lines: The lines without their ends.
        numbers: Number of each line, from 1 where the range begins.
        counts: What the lines of the range are, as far as the reader of lines can tell.
        long: A line that is too long and follows them, if there is one.
        damage: Where the stream broke behind them, if it did.
    """

    starts: list[int] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    numbers: Sequence[int] = ()
    counts: LineCounts = field(default_factory=LineCounts)
    long: LongRecord | None = None
    damage: Damage | None = None

    @classmethod
    def of_long(cls, start: int, data: bytes) -> "Lines":
        """Returns a record that is too long and nothing else."""
        return cls(long=LongRecord(start, data[:HEAD], 0))


def iter_lines(
    stream: ByteStream,
    offset: int,
    begin: int,
    end: int | None,
    max_bytes: int,
    keep_returns: bool = False,
) -> Iterator[Lines]:
    r"""Reads the lines that begin in a range; they end with ``\n`` or ``\r\n``.

    Args:
        stream: Stands at ``offset``.
        offset: 0, or a place before ``begin``.
        begin: First byte of the range. Unless it is 0, the byte before it must be read too, as
            only it tells whether a line begins here.
        end: The byte behind the range, or None to read to the end.
        max_bytes: A longer line is passed over without being held.
        keep_returns: Whether the ``\r`` of a line's end stays with the line.

    Yields:
        Batches of lines in order. A UTF-8 mark at the start of the file is not part of a line.
    """
    reader = _LineReader(stream, offset, max_bytes, keep_returns)
    if begin and not reader.skip(begin, end):
        return
    for batch in reader:
        done = end is not None and reader.place >= end
        if done:
            _drop_from(batch, end or 0)
        if batch.starts or batch.long or batch.damage:
            batch.counts = LineCounts(len(batch.starts) + bool(batch.long))
            yield batch
        if done:
            return


def _drop_from(batch: Lines, end: int) -> None:
    last = bisect_left(batch.starts, end)
    del batch.starts[last:], batch.lines[last:]
    batch.numbers = batch.numbers[:last]
    if batch.long and batch.long.start >= end:
        batch.long = None


class _LineReader:
    """Cuts a stream into batches of whole lines; ``place`` is where the next line begins."""

    def __init__(self, stream: ByteStream, offset: int, max_bytes: int, keep_returns: bool) -> None:
        self._stream = stream
        self.place = offset
        self._number = 1
        self._max = max_bytes
        self._keep_returns = keep_returns
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._pending = b""
        self._damage: Damage | None = None

    def skip(self, begin: int, end: int | None) -> bool:
        """Passes over lines that begin before a range; False where none begins in it.

        Nothing is read behind the range to tell that, or each of the ranges that a very long line
        spans would read it to its end.
        """
        at, inside = self.place, True
        while inside or at < begin:
            if end is not None and at >= end:
                return False
            piece = self._read()
            if not piece:
                return False
            line = piece.find(b"\n") + 1
            at += line or len(piece)
            inside = not line
            if line:
                self._pending = piece[line:]
        self.place = at
        return end is None or at < end

    def __iter__(self) -> Iterator[Lines]:
        while piece := self._read():
            end = piece.rfind(b"\n")
            if end < 0:
                self._hold(piece)
                if self._tail_bytes > self._max + len(BOM) + len(b"\r"):
                    yield self._pass_over()
                continue
            self._tail.append(piece[:end])
            whole = b"".join(self._tail)
            self._tail, self._tail_bytes = [], 0
            self._hold(piece[end + 1 :])
            yield from self._cut(whole)
        # A line that is cut off is lost: the damage stands for it.
        if self._tail_bytes and (self._damage is None or self._damage.complete):
            yield from self._cut(b"".join(self._tail))
        if self._damage:
            yield Lines(damage=self._damage)

    def _read(self) -> bytes:
        if self._pending:
            piece, self._pending = self._pending, b""
            return piece
        if self._damage:
            return b""
        try:
            return self._stream.read()
        except DamagedFileError as error:
            self._damage = Damage(
                self.place + self._tail_bytes, str(error), error.complete, self._number
            )
            return b""

    def _hold(self, piece: bytes) -> None:
        self._tail.append(piece)
        self._tail_bytes += len(piece)

    def _cut(self, whole: bytes) -> Iterator[Lines]:
        lines = whole.split(b"\n")
        lengths = np.fromiter(map(len, lines), dtype=np.int64, count=len(lines))
        starts = self.place + np.cumsum(lengths + 1) - lengths - 1
        after = self.place + len(whole) + 1
        numbers = range(self._number, self._number + len(lines))
        self._number += len(lines)
        if b"\r" in whole and not self._keep_returns:
            lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if self.place == 0:
            lines[0] = lines[0].removeprefix(BOM)
        if lengths.max() > self._max:
            yield from self._parted(starts.tolist(), lines, numbers, after)
        else:
            self.place = after
            yield Lines(starts.tolist(), lines, numbers)

    def _parted(
        self, starts: list[int], lines: list[bytes], numbers: range, after: int
    ) -> Iterator[Lines]:
        begun = 0
        for at, line in enumerate(lines):
            if len(line) > self._max:
                long = LongRecord(starts[at], line[:HEAD], line.count(b'"'), numbers[at])
                self.place = starts[at + 1] if at + 1 < len(starts) else after
                yield Lines(starts[begun:at], lines[begun:at], numbers[begun:at], long=long)
                begun = at + 1
        self.place = after
        yield Lines(starts[begun:], lines[begun:], numbers[begun:])

    def _pass_over(self) -> Lines:
        """Reads to the end of the line in hand and keeps its beginning alone."""
        held = b"".join(self._tail)
        long = LongRecord(self.place, held[:HEAD], held.count(b'"'), self._number)
        self._number += 1
        if self.place == 0:
            long = long._replace(head=long.head.removeprefix(BOM))
        self.place += len(held)
        self._tail, self._tail_bytes = [], 0
        while piece := self._read():
            end = piece.find(b"\n")
            line = piece if end < 0 else piece[:end]
            long = long._replace(quotes=long.quotes + line.count(b'"'))
            self.place += len(line)
            if end >= 0:
                self.place += 1
                self._pending = piece[end + 1 :]
                break
        return Lines(long=long)


def iter_paragraphs(
    stream: ByteStream, offset: int, begin: int, end: int | None, max_bytes: int
) -> Iterator[Lines]:
    r"""Reads the paragraphs of a range; their lines are joined with ``\n``.

    Args and yields are those of ``iter_lines``, with paragraphs in the place of lines.
    """
    paragraph = _Paragraph(max_bytes)
    in_range = begin == 0
    reader = _LineReader(stream, offset, max_bytes, keep_returns=False)
    if begin and not reader.skip(begin, end):
        return
    for batch in reader:
        found = Lines()
        blank, done = 0, False
        continued = paragraph.continued
        lines = zip(batch.starts, batch.lines, batch.numbers, strict=True)
        for start, line, number in lines:
            if line.strip():
                if in_range:
                    paragraph.add(start, line, number)
                continue
            yield from paragraph.flush(found)
            if end is not None and start >= end:
                done = True
                break
            blank += 1
            in_range = True
        if batch.long and in_range and not done:
            paragraph.add_long(batch.long)
        if batch.damage and batch.damage.complete:
            yield from paragraph.flush(found)
        found.damage = None if done else batch.damage
        passed = end is not None and batch.starts and batch.starts[-1] >= end
        # The last of them, where it is damaged, stands for what was being read.
        lost = paragraph.under_way if batch.damage else 0
        found.counts = LineCounts(
            lines=_begun(batch, end),
            blank=blank,
            continued=paragraph.continued - continued + lost,
        )
        found.numbers = paragraph.take_numbers()
        yield found
        if done or batch.damage or (passed and not in_range):
            return
    last = Lines()
    yield from paragraph.flush(last)
    last.numbers = paragraph.take_numbers()
    yield last


def _begun(batch: Lines, end: int | None) -> int:
    """Counts the lines that begin in a range."""
    if end is None:
        return len(batch.starts) + bool(batch.long)
    long = batch.long is not None and batch.long.start < end
    return bisect_left(batch.starts, end) + long


class _Paragraph:
    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._start = 0
        # Lines joined at once would each take many times what is in a short one.
        self._text: bytearray | None = None
        self._number = 0
        self._numbers: list[int] = []
        self._long: LongRecord | None = None
        self.continued = 0
        """Lines so far that are not the first of their paragraph."""

    @property
    def under_way(self) -> bool:
        """Whether a paragraph has begun."""
        return self._text is not None or self._long is not None

    def add(self, start: int, line: bytes, number: int) -> None:
        self.continued += self.under_way
        if self._long:
            return
        self._append(start, line, number)

    def add_long(self, long: LongRecord) -> None:
        self.continued += self.under_way
        if self._long:
            return
        self._append(long.start, long.head, long.number)
        self._give_up()

    def _append(self, start: int, line: bytes, number: int) -> None:
        if self._text is None:
            self._start, self._number, self._text = start, number, bytearray(line)
        else:
            self._text += b"\n"
            self._text += line
        if len(self._text) > self._max:
            self._give_up()

    def _give_up(self) -> None:
        if self._text is not None:
            self._long = LongRecord(self._start, bytes(self._text[:HEAD]), 0, self._number)
            self._text = None

    def take_numbers(self) -> list[int]:
        """Returns the numbers of the first lines of what was found since the last call."""
        taken, self._numbers = self._numbers, []
        return taken

    def flush(self, found: Lines) -> Iterator[Lines]:
        """Ends the paragraph; yields what was found, emptied, when a long one must follow it."""
        if self._text is not None:
            found.starts.append(self._start)
            found.lines.append(bytes(self._text))
            self._numbers.append(self._number)
        elif self._long:
            yield Lines(found.starts[:], found.lines[:], self.take_numbers(), long=self._long)
            found.starts.clear()
            found.lines.clear()
        self._text = self._long = None
