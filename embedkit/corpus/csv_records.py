"""Records of CSV and TSV files, streamed; a field in quotes may hold line ends.

Quotes are taken at their word only where they are right: a record whose quote is closed in the
middle of a field, or not before the end of the file, is one reject, and the lines that the quote
would have swallowed are read as what they are.
"""

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, too_long
from embedkit.corpus.csv_dialect import Dialect, check_columns, check_header
from embedkit.corpus.csv_lines import CsvLines, TooLongError, TooManyLinesError
from embedkit.corpus.csv_swallowed import may_swallow_records, swallows_records
from embedkit.corpus.documents import Records, excerpt
from embedkit.corpus.encodings import HEAD, TextStream, open_text, undecodable
from embedkit.corpus.lines import iter_lines
from embedkit.corpus.splits import FileRange
from embedkit.corpus.text_records import damaged
from embedkit.errors import InputError
from embedkit.records import LineCounts, Reject

_BATCH_ROWS = 4096
_BATCH_BYTES = 1 << 20
_NO_FIELD_LIMIT = (1 << 31) - 1
"""Off: records are measured as they are fed, and a process has this limit only once."""

_MOST_LINES_COMPARED = 1000
"""Of a record of more lines, as many as are enough to tell whether they are records themselves."""

_warned: set[str] = set()
_log = logging.getLogger(__name__)


@dataclass
class _Batch:
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_csv(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads the records of a CSV or TSV file behind its header; blank lines are no records.

    Raises:
        InputError: The header is not what it was when the file was planned.
    """
    with open_text(file, config) as stream:
        reader = _Reader(stream, file, config)
        header = list(config.columns) or reader.header()
        number = 0
        if header:
            check_header(file, header, columns.needed, reader.dialect)
            for batch in reader.batches(len(header)):
                yield _records(batch, header, file, columns)
                number += len(batch.numbers) + len(batch.rejects)
        if reader.lines.damage:
            damage = reader.lines.damage._replace(start=number, number=reader.lines.line + 1)
            yield Records(file.source, rejects=[damaged(file, damage)])
        yield Records(file.source, counts=reader.counts)


def check_csv(file: FileRange, config: CorpusConfig, names: tuple[str, ...]) -> None:
    """Checks that a file's columns can be told, and some columns are among them.

    An empty or damaged file has none, and passes.

    Raises:
        InputError: The header cannot be read, lacks a column or has one twice.
    """
    with open_text(file, config, fetch=HEAD) as stream:
        reader = _Reader(stream, file, config)
        first = reader.header()
    if first and config.columns:
        check_columns(file, first, config.columns, reader.dialect)
    if first:
        check_header(file, list(config.columns) or first, names, reader.dialect)


class _Reader:
    """Reads the records of one file in batches."""

    def __init__(self, stream: TextStream, file: FileRange, config: CorpusConfig) -> None:
        csv.field_size_limit(_NO_FIELD_LIMIT)
        pieces = iter_lines(stream, 0, 0, stream.end, config.max_record_bytes, keep_returns=True)
        self.dialect = Dialect.of(file, config)
        self.lines = CsvLines(
            pieces, self.dialect, config.max_record_bytes, config.max_record_lines
        )
        self._rows = self.dialect.reader(self.lines)
        self._file = file
        self._config = config
        self._blank = self._headers = self._continued = 0

    @property
    def counts(self) -> LineCounts:
        """What the lines are that were read so far."""
        return LineCounts(self.lines.line, self._blank, self._headers, self._continued)

    def header(self) -> list[str]:
        """Reads the fields of the first record; an empty or damaged file has none.

        Raises:
            InputError: It cannot be read.
        """
        found: list[str] = []
        problem = None
        while not found and problem is None:
            self._blank += self.lines.taken
            self.lines.begin()
            try:
                found = next(self._rows)
            except StopIteration:
                break
            except (csv.Error, TooLongError, TooManyLinesError) as error:
                problem = self._problem(error)[1]
        if self.lines.damage and self.lines.taken != 1:
            self._continued += self.lines.taken
            return []
        if problem is not None:
            raise InputError(f"{self._file.url}: its header cannot be read: {problem}")
        self._headers += self.lines.taken
        self.lines.begin()
        return found

    def batches(self, width: int) -> Iterator[_Batch]:
        """Reads the records to the end of the file or to where it breaks off.

        Args:
            width: How many fields a record may have.
        """
        batch = _Batch()
        number = size = 0
        while True:
            row: list[str] = []
            problem: tuple[str, str] | None = None
            try:
                row = next(self._rows)
            except StopIteration:
                break
            except (csv.Error, TooLongError, TooManyLinesError) as error:
                if self.lines.damage and self.lines.ended:
                    self._continued += self.lines.taken
                    break
                problem = self._problem(error)
            if problem is None and self.lines.taken > 1:
                problem = self._swallowed(row, width)
            size += self.lines.bytes
            if row or problem:
                self._add(batch, row, problem or self._fault(row, width), number)
                number += 1
                self._continued += self.lines.taken - 1
            else:
                self._blank += self.lines.taken
            self.lines.begin()
            if len(batch.numbers) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                yield batch
                batch, size = _Batch(), 0
        yield batch

    def _problem(self, error: Exception) -> tuple[str, str]:
        """Names what is wrong with the record under way; gives back what it took wrongly."""
        lines, first = self.lines, self.lines.first_line
        if isinstance(error, TooLongError):
            closed = lines.pass_over()
            if closed or lines.taken == 1:
                return ("too_long", f"line {first}: {too_long(self._config.max_record_bytes)}")
        hint, taken = self._other_dialect(), lines.taken
        what = self._said(error, taken)
        if taken > 1:
            what += f"; the {taken - 1} lines behind it are read as records of their own"
            lines.give_back()
        return ("invalid_csv", f"line {first}: {what}; mend the quoting{hint}")

    def _swallowed(self, row: list[str], width: int) -> tuple[str, str] | None:
        """Names a record whose quotes are right and have other records between them."""
        lines, taken = self.lines, self.lines.taken
        texts = lines.texts(_MOST_LINES_COMPARED)
        if swallows_records(texts, self.dialect.delimiter, width):
            why = f"each of which looks like a record of {width} fields"
        elif texts and row and len(row) != width:
            why = f"and leaves {len(row)} fields under a header of {width}"
        else:
            if may_swallow_records(texts, self.dialect.delimiter, width):
                self._warn(
                    f"a quoted field runs over {taken} lines, all of which may be records; "
                    "see that no quote is missing there"
                )
            return None
        what = (
            f"line {lines.first_line}: a quoted field runs over {taken} lines, {why}; the "
            f"{taken - 1} lines behind it are read as records; mend the quoting, or leave its "
            "line ends out"
        )
        lines.give_back()
        return ("invalid_csv", what)

    def _warn(self, what: str) -> None:
        """Says once of each file what cannot be told for sure."""
        if self._file.url not in _warned:
            _warned.add(self._file.url)
            _log.warning("%s: line %d: %s", self._file.url, self.lines.first_line, what)

    def _said(self, error: Exception, taken: int) -> str:
        if isinstance(error, TooManyLinesError):
            most = self._config.max_record_lines
            return f"a quote is not closed within {most} lines (--max-record-lines)"
        if self.lines.ended or isinstance(error, TooLongError):
            return "a quote is opened and never closed"
        if "new-line" in str(error):
            return "a carriage return stands in the middle of a field without quotes"
        return "text stands behind a closing quote" + (
            f" {taken - 1} lines further on" if taken > 1 else ""
        )

    def _other_dialect(self) -> str:
        """Says which other dialect the record under way seems to have."""
        quote, delimiter = self.dialect.quote, self.dialect.delimiter
        escaped = ("\\" + one for one in (quote, delimiter) if one)
        if self.dialect.escape is None and any(map(self.lines.holds, escaped)):
            return ", or name what takes quotes and delimiters literally: --escape '\\'"
        if quote is None and self.lines.holds('"'):
            return ", or say that fields are quoted: --quote '\"'"
        return ""

    def _fault(self, row: list[str], width: int) -> tuple[str, str] | None:
        line = self.lines.first_line
        spanned = len(row) < width and any(self.dialect.delimiter in one for one in row)
        if len(row) > width or spanned or (self.lines.suspect and len(row) != width):
            detail = f"line {line}: {len(row)} fields under a header of {width}; mend the quoting"
            return ("invalid_csv", detail + self._other_dialect())
        if len(row) < width:
            self._warn(f"{len(row)} fields under a header of {width}; the others are taken as null")
        joined = "".join(row)
        if joined.isascii():
            return None
        data = joined.encode("utf-8", "surrogateescape")
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return ("invalid_utf8", f"line {line}: {undecodable(data, error)}")
        return None

    def _add(
        self, batch: _Batch, row: list[str], problem: tuple[str, str] | None, number: int
    ) -> None:
        if problem is None:
            batch.rows.append(row)
            batch.numbers.append(number)
            batch.lines.append(self.lines.first_line)
            return
        reason, detail = problem
        shown = excerpt(self.lines.shown() or ",".join(row)[:800])
        line = self.lines.first_line
        batch.rejects.append(
            Reject(self._file.source, number, reason, detail, excerpt=shown, line=line)
        )


def _records(batch: _Batch, header: list[str], file: FileRange, columns: Columns) -> Records:
    values = {}
    for name in columns.names:
        # A template's optional column may be none of the file's.
        place = header.index(name) if name in header else len(header)
        values[name] = [row[place] if place < len(row) else None for row in batch.rows]
    return Records(
        file.source,
        batch.numbers,
        values,
        batch.rejects,
        typed=False,
        places=batch.numbers,
        numbers=batch.lines,
    )
