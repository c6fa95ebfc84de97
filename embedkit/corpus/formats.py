"""Reads a split: its files' records become documents, and those blocks."""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from itertools import islice

from embedkit.config import CorpusConfig
from embedkit.corpus.blocks import make_blocks
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.columns import Columns
from embedkit.corpus.csv_records import read_csv
from embedkit.corpus.documents import MOST_RECORD_BYTES, Documents, Records, make_documents
from embedkit.corpus.json_records import read_json
from embedkit.corpus.opening import is_one_request
from embedkit.corpus.parquet_records import read_parquet
from embedkit.corpus.parts import in_parts
from embedkit.corpus.splits import FileRange, Plan, Split
from embedkit.corpus.text_records import read_jsonl, read_text
from embedkit.errors import ConfigError
from embedkit.records import DocumentBlock, LineCounts
from embedkit.threads import GeneratorThreads

_READERS: dict[str, Callable[[FileRange, CorpusConfig, Columns], Iterator[Records]]] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_csv,
    "parquet": read_parquet,
}


_FILES_AHEAD = 16
BY_BYTES = ("text", "jsonl")
"""Formats whose plain files are cut into ranges of bytes."""


def read_split(
    split: Split, plan: Plan, config: CorpusConfig, chunker: Chunker | None = None
) -> Iterator[DocumentBlock]:
    """Reads the blocks of a split; the same split gives the same blocks, wherever it is read.

    Args:
        split: The split.
        plan: The plan it belongs to, with or without its splits.
        config: How records become rows, and how large a block is.
        chunker: Cuts documents into chunks, or None to leave them whole.

    Yields:
        The blocks in order, numbered from 0, of which exactly the last is marked so; a split
        without a record gives one block without rows.

    Raises:
        ConfigError: Nobody has checked the plan's ids yet.
        InputError: A file is gone, has changed since the plan, or unpacks to more than it may.
    """
    if not plan.ids_checked:
        raise ConfigError(
            "plan: which of its records repeat an id is not known yet; check_ids finds them"
        )
    lines: list[LineCounts] = []
    documents = _documents(split, plan, config, lines)
    if split.documents is not None:
        documents = _first(documents, split.documents)
    for block in make_blocks(split.split_id, documents, plan.schema, config, chunker):
        # Of a trial the last split is read in part, and so are its lines.
        counted = block.last and split.documents is None
        yield replace(block, lines=tuple(lines)) if counted else block


def read_records(
    file: FileRange, config: CorpusConfig, columns: Columns
) -> Generator[Records, None, None]:
    """Reads the records of one range, batch by batch.

    Args:
        file: The range.
        config: How it is read.
        columns: Which columns are read.

    Yields:
        Batches of records. The last one is held back until the file was looked at once more, so
        that a range never seems complete of which a part was cut off or written anew.

    Raises:
        InputError: The file is gone, has changed since the plan, or unpacks to more than it may.
    """
    limit = min(config.max_record_bytes, MOST_RECORD_BYTES)
    capped = config.model_copy(update={"max_record_bytes": limit})
    held: Records | None = None
    for records in _READERS[file.format](file, capped, columns):
        if held is not None:
            yield held
        held = records
    if held is not None:
        yield held


def read_ranges(
    ranges: Sequence[FileRange], config: CorpusConfig, columns: Columns
) -> Iterator[tuple[FileRange, Iterable[Records]]]:
    """Reads the records of ranges, in order.

    Of small files of a store some are read ahead, so that their requests wait together. What that
    holds is bounded: those that may unpack to more than they are wait for their turn.

    Args:
        ranges: The ranges.
        config: How they are read.
        columns: Which columns are read.

    Yields:
        Each range and its records, to be read before the next range; errors are those of
        ``read_records``.
    """

    def read(file: FileRange) -> list[Records]:
        return list(read_records(file, config, columns))

    with GeneratorThreads(_FILES_AHEAD, thread_name_prefix="small-files") as threads:
        ahead: deque[tuple[FileRange, Future[list[Records]] | None]] = deque()
        left = iter(ranges)
        while True:
            for file in islice(left, _FILES_AHEAD - len(ahead)):
                as_stored = file.compression == "none" and file.format != "parquet"
                small = as_stored and is_one_request(file)
                ahead.append((file, threads.submit(read, file) if small else None))
            if not ahead:
                return
            file, found = ahead.popleft()
            yield file, read_records(file, config, columns) if found is None else found.result()


def _documents(
    split: Split, plan: Plan, config: CorpusConfig, lines: list[LineCounts]
) -> Iterator[Documents]:
    """Reads the documents of a split; notes in ``lines`` what the lines of each range are."""
    columns = Columns.of(config, plan.metadata)
    duplicates: Collection[tuple[str, int]] = frozenset(split.duplicates)
    most = min(config.max_record_bytes, MOST_RECORD_BYTES)
    make = partial(
        make_documents,
        columns=columns,
        schema=plan.schema,
        max_record_bytes=most,
        duplicates=duplicates,
    )
    for file, batches in read_ranges(split.ranges, config, columns):
        lines.append(LineCounts())
        for records in batches:
            lines[-1] += replace(records.counts, records=records_of_lines(records))
            in_range = file.start and file.format in BY_BYTES
            for part in in_parts(records, columns, most):
                yield _in_range(make(part)) if in_range else make(part)
        if not lines[-1].lines:
            # An empty file, or a format without lines.
            lines[-1] = LineCounts()


def records_of_lines(records: Records) -> int:
    """Counts records, but not damage, which stands for the rest of a file."""
    return len(records) - sum(one.reason == "damaged_file" for one in records.rejects)


def _in_range(documents: Documents) -> Documents:
    rejects = (
        replace(one, line=None, line_in_range=one.line) if one.line else one
        for one in documents.rejects
    )
    lines = None if documents.lines is None else -documents.lines
    return replace(documents, rejects=tuple(rejects), lines=lines)


def _first(batches: Iterator[Documents], count: int) -> Iterator[Documents]:
    for documents in batches:
        yield documents.first(count)
        count -= len(documents)
        if count <= 0:
            return
