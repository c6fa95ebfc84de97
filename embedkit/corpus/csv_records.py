"""Records of CSV and TSV files, streamed; a field in quotes may hold line ends."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.compression import ByteStream, open_stream
from embedkit.corpus.documents import Records, excerpt, too_long
from embedkit.corpus.lines import Damage, Lines, iter_lines
from embedkit.corpus.splits import FileRange
from embedkit.corpus.text_records import damaged
from embedkit.errors import InputError
from embedkit.records import Reject

_BATCH_ROWS = 4096
_BATCH_BYTES = 1 << 20
_NO_FIELD_LIMIT = (1 << 31) - 1
"""Off: records are measured as they are fed, and a process has this limit only once."""


class _TooLongError(Exception):
    """The record under way is too long; what follows is the next one."""


class _Feed:
    """Feeds lines to a csv reader and knows how much of them the record under way has taken."""

    def __init__(self, pieces: Iterator[Lines], max_bytes: int) -> None:
        self._pieces = pieces
        self._max = max_bytes
        self._lines: Iterator[bytes] = iter(())
        self._piece = Lines()
        self.taken = 0
        self.bytes = 0
        self.unclosed = False
        self.damage: Damage | None = None

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = self._next_line()
        if line is None:
            # A reader asks for more within a record only while a quote is open.
            self.unclosed = self.taken > 0
            raise StopIteration
        self.taken += 1
        self.bytes += len(line) + 1
        if self.bytes > self._max + 1:
            self._skip(line.count(b'"') if self.taken == 1 else line.count(b'"') + 1)
        # Bytes that are not UTF-8 pass as surrogates until the record they are in is known.
        return line.decode("utf-8", "surrogateescape") + "\n"

    def begin(self) -> None:
        """Tells that a record is complete and the next line begins another."""
        self.taken = self.bytes = 0

    def _next_line(self) -> bytes | None:
        while True:
            line = next(self._lines, None)
            if line is not None:
                return line
            if self._piece.long:
                quotes, self._piece.long = self._piece.long.quotes, None
                self._skip(quotes + (self.taken > 0))
            if self._piece.damage:
                self.damage = self._piece.damage
                return None
            piece = next(self._pieces, None)
            if piece is None:
                return None
            self._piece, self._lines = piece, iter(piece.lines)

    def _skip(self, quotes: int) -> None:
        """Passes over the rest of a record: the lines until its open quote, if any, is closed."""
        inside = quotes % 2 == 1
        while inside:
            line = next(self._lines, None)
            if line is not None:
                inside = line.count(b'"') % 2 == 0
            elif self._piece.long:
                inside = self._piece.long.quotes % 2 == 0
                self._piece.long = None
            elif self._piece.damage or (piece := next(self._pieces, None)) is None:
                break
            else:
                self._piece, self._lines = piece, iter(piece.lines)
        raise _TooLongError


@dataclass
class _Batch:
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_csv(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads the records of a CSV or TSV file behind its header; blank lines are no records.

    Raises:
        InputError: The header is not what it was when the file was planned.
    """
    with open_stream(file, config.max_decompressed_bytes) as stream:
        feed = _feed(stream, file, config)
        reader = _reader(feed, file)
        header = _header(reader, feed, file)
        number = 0
        if header:
            check_header(file, header, columns.names)
            for batch in _batches(reader, feed, file, config, len(header)):
                yield _records(batch, header, file, columns)
                number += len(batch.numbers) + len(batch.rejects)
        if feed.damage:
            damage = feed.damage._replace(start=number)
            yield Records(file.source, rejects=[damaged(file, damage)])


def read_header(file: FileRange, config: CorpusConfig) -> list[str]:
    """Reads the names in the first record; an empty or damaged file has none.

    Raises:
        InputError: The header cannot be read.
    """
    with open_stream(file, config.max_decompressed_bytes) as stream:
        feed = _feed(stream, file, config)
        return _header(_reader(feed, file), feed, file)


def check_header(file: FileRange, header: list[str], names: tuple[str, ...]) -> None:
    """Raises InputError where a header lacks a column or has it twice."""
    for name in names:
        if header.count(name) != 1:
            what = "more than one column" if name in header else "no column"
            raise InputError(
                f"{file.url}: has {what} {name!r}; its columns are {', '.join(header)[:500]}"
            )


def _feed(stream: ByteStream, file: FileRange, config: CorpusConfig) -> _Feed:
    end = file.end if file.compression == "none" else None
    lines = iter_lines(stream, 0, 0, end, config.max_record_bytes, keep_returns=True)
    return _Feed(lines, config.max_record_bytes)


def _reader(feed: _Feed, file: FileRange) -> Iterator[list[str]]:
    csv.field_size_limit(_NO_FIELD_LIMIT)
    return csv.reader(feed, delimiter="\t" if file.format == "tsv" else ",")


def _header(reader: Iterator[list[str]], feed: _Feed, file: FileRange) -> list[str]:
    try:
        header: list[str] = next((row for row in reader if row), [])
    except (_TooLongError, csv.Error) as error:
        what = str(error) or "too long"
        raise InputError(f"{file.url}: its header cannot be read: {what}; mend it") from error
    if feed.damage and feed.taken != 1:
        return []
    feed.begin()
    return header


def _batches(
    reader: Iterator[list[str]], feed: _Feed, file: FileRange, config: CorpusConfig, width: int
) -> Iterator[_Batch]:
    batch = _Batch()
    number = size = 0
    while True:
        row: list[str] | None = None
        problem: tuple[str, str] | None = None
        try:
            row = next(reader)
        except StopIteration:
            break
        except _TooLongError:
            problem = ("too_long", too_long(config.max_record_bytes))
        except csv.Error as error:
            problem = ("invalid_csv", f"{error}; mend the quoting or the line ends")
        size += feed.bytes
        feed_damaged = feed.damage is not None and feed.unclosed
        feed.begin()
        if feed_damaged:
            break
        if row is not None and not row:
            continue
        _add(batch, row, problem or _problem(row or [], width, feed), number, file)
        number += 1
        if len(batch.numbers) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = _Batch(), 0
    yield batch


def _problem(row: list[str], width: int, feed: _Feed) -> tuple[str, str] | None:
    if feed.unclosed:
        return ("invalid_csv", "a quote is opened and never closed; mend the quoting")
    if len(row) > width:
        detail = f"{len(row)} fields under a header of {width}; mend the quoting"
        return ("invalid_csv", detail)
    return None


def _add(
    batch: _Batch,
    row: list[str] | None,
    problem: tuple[str, str] | None,
    number: int,
    file: FileRange,
) -> None:
    if problem is None and row is not None:
        problem = _undecoded(row)
    if problem is None and row is not None:
        batch.rows.append(row)
        batch.numbers.append(number)
        return
    reason, detail = problem or ("", "")
    shown = excerpt(",".join(row or ())[:800])
    batch.rejects.append(Reject(file.source, number, reason, detail, excerpt=shown))


def _undecoded(row: list[str]) -> tuple[str, str] | None:
    joined = "".join(row)
    if joined.isascii():
        return None
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        byte = ord(joined[error.start]) & 0xFF
        return ("invalid_utf8", f"byte 0x{byte:02x} is not UTF-8; convert the file to UTF-8")
    return None


def _records(batch: _Batch, header: list[str], file: FileRange, columns: Columns) -> Records:
    values = {}
    for name in columns.names:
        place = header.index(name)
        values[name] = [row[place] if place < len(row) else None for row in batch.rows]
    return Records(file.source, batch.numbers, values, batch.rejects, typed=False)
