"""Feeds the lines of a CSV file to a reader, and takes back those that a stray quote swallowed."""

import csv
from collections import deque
from collections.abc import Iterator
from enum import Enum

from embedkit.corpus.csv_dialect import Dialect
from embedkit.corpus.lines import Damage, Lines, LongRecord

_LEAST_HELD = 1 << 20


class TooLongError(Exception):
    """The record under way has more bytes than a record may have."""


class TooManyLinesError(Exception):
    """The record under way has more lines than a record may have."""


class _Quote(Enum):
    CLOSED = "closed"
    OPEN = "open"
    BROKEN = "broken"


class CsvLines:
    """Feeds lines to a csv reader, and knows those that the record under way has taken.

    Args:
        pieces: The lines of the file, with the carriage returns of their ends.
        dialect: The file's dialect.
        max_bytes: Most bytes of a record.
        max_lines: Most lines of a record.
    """

    def __init__(
        self, pieces: Iterator[Lines], dialect: Dialect, max_bytes: int, max_lines: int
    ) -> None:
        self._pieces = pieces
        self._dialect = dialect
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._lines: Iterator[bytes] = iter(())
        self._piece = Lines()
        self._again: deque[bytes | LongRecord] = deque()
        self._taken: list[bytes | LongRecord] = []
        self._dropped = 0
        self._suspect = 0
        self.line = 0
        """Number of the last line that was taken, from 1."""
        self.bytes = 0
        """Bytes of the record under way."""
        self.ended = False
        """Whether the record under way met the end of the file."""
        self.damage: Damage | None = None
        """Where the file breaks off, if it does and the reader got there."""

    def __iter__(self) -> "CsvLines":
        return self

    def __next__(self) -> str:
        line = self._take()
        if line is None:
            # A reader asks for more within a record only while a quote is open.
            self.ended = bool(self._taken)
            raise StopIteration
        if isinstance(line, LongRecord) or self.bytes > self._max_bytes + 1:
            raise TooLongError
        if len(self._taken) > self._max_lines:
            raise TooManyLinesError
        return _decoded(line) + "\n"

    @property
    def first_line(self) -> int:
        """Number of the first line of the record under way."""
        return self.line - len(self._taken) - self._dropped + 1

    @property
    def taken(self) -> int:
        """How many lines the record under way has taken."""
        return len(self._taken) + self._dropped

    @property
    def suspect(self) -> bool:
        """Whether the record under way begins among lines that a broken one had taken before."""
        return self.first_line <= self._suspect

    def begin(self) -> None:
        """Tells that a record is complete and the next line begins another."""
        self._taken.clear()
        self._dropped = self.bytes = 0
        self.ended = False

    def give_back(self) -> None:
        """Gives all lines but the first of the record under way back, to be read anew."""
        self._suspect = max(self._suspect, self.line)
        self.line -= len(self._taken) - 1
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]

    def shown(self) -> str:
        """Returns the beginning of the first line of the record under way."""
        first = self._taken[0] if self._taken else b""
        return _decoded((first.head if isinstance(first, LongRecord) else first)[:800])

    def texts(self, most: int) -> list[str]:
        """Returns the first lines of the record under way, or none where they were not kept."""
        first = self._taken[:most]
        kept = [line for line in first if isinstance(line, bytes)]
        return list(map(_decoded, kept)) if len(kept) == min(self.taken, most) else []

    def holds(self, text: str) -> bool:
        """Whether a line of the record under way holds a text."""
        data = text.encode()
        return any(data in line for line in self._taken if isinstance(line, bytes))

    def pass_over(self) -> bool:
        """Takes the rest of a record that is too long, up to the line that closes its quote.

        Returns:
            Whether the quote is closed as it should; where it is not, the lines may be given back.
            Of more lines than memory should hold, only the last can be, and the answer is yes.
        """
        state = _Quote.CLOSED
        for line in self._taken:
            state = self._after(state, line)
        while state is _Quote.OPEN and self.taken <= self._max_lines:
            following = self._take()
            if following is None:
                break
            state = self._after(state, following)
            if self.bytes > max(self._max_bytes, _LEAST_HELD):
                self._dropped += len(self._taken) - 1
                del self._taken[1:]
        if self._dropped and state is not _Quote.CLOSED:
            return True
        return state is _Quote.CLOSED

    def _after(self, state: _Quote, line: bytes | LongRecord) -> _Quote:
        if isinstance(line, LongRecord):
            odd = self._dialect.quote == '"' and line.quotes % 2 == 1
            return _Quote.OPEN if odd != (state is _Quote.OPEN) else _Quote.CLOSED
        text = (self._dialect.quote or "") * (state is _Quote.OPEN) + _decoded(line) + "\n"
        source = _Once(text)
        try:
            next(self._dialect.reader(source))
        except (csv.Error, StopIteration):
            return _Quote.OPEN if source.asked_again else _Quote.BROKEN
        return _Quote.CLOSED

    def _take(self) -> bytes | LongRecord | None:
        line = self._again.popleft() if self._again else self._next_line()
        if line is not None:
            self.line += 1
            self._taken.append(line)
            self.bytes += len(line.head if isinstance(line, LongRecord) else line) + 1
        return line

    def _next_line(self) -> bytes | LongRecord | None:
        while True:
            line = next(self._lines, None)
            if line is not None:
                return line
            if self._piece.long:
                long, self._piece.long = self._piece.long, None
                return long
            if self._piece.damage:
                self.damage = self._piece.damage
                return None
            piece = next(self._pieces, None)
            if piece is None:
                return None
            self._piece, self._lines = piece, iter(piece.lines)


class _Once:
    """One line, and whether a reader asked for a second."""

    def __init__(self, line: str) -> None:
        self._lines = iter((line,))
        self.asked_again = False

    def __iter__(self) -> "_Once":
        return self

    def __next__(self) -> str:
        for line in self._lines:
            return line
        self.asked_again = True
        raise StopIteration


def _decoded(line: bytes) -> str:
    # Bytes that are not UTF-8 pass as surrogates until the record they are in is known.
    return line.decode("utf-8", "surrogateescape")
