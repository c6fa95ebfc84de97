"""Estimates how much work a plan is, from a small sample."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from embedkit.config import CorpusConfig
from embedkit.corpus.candidates import SEPARATOR
from embedkit.corpus.columns import Columns
from embedkit.corpus.documents import make_documents
from embedkit.corpus.formats import read_records
from embedkit.corpus.parts import in_parts
from embedkit.corpus.splits import FileRange, Plan

_SAMPLED_RANGES = 32
_SAMPLED_BYTES = 1 << 18
_SAMPLED_BYTES_OF = {"bz2": 1 << 20}
"""Of a bz2 file nothing comes out before a whole block is in, and that has up to 900 kB."""
_SAMPLED_TEXTS = 64
_MOST_TEXT_BYTES = 1 << 25
"""Of one range; a template may make far more text than was read."""


@dataclass(frozen=True)
class CorpusEstimate:
    """The size of a corpus; all but the first three are estimates.

    Attributes:
        files: Input files.
        splits: Splits.
        bytes: Bytes of the files as stored.
        records: All records, with those that cannot be embedded.
        documents: Records that can be embedded.
        text_bytes: UTF-8 bytes of their text.
        tokens: Tokens of their text.
    """

    files: int
    splits: int
    bytes: int
    records: int
    documents: int
    text_bytes: int
    tokens: int


@dataclass
class _Sample:
    """What was read of ranges of one kind, and how much of them that was."""

    records: int = 0
    documents: int = 0
    text_bytes: int = 0
    units: int = 0
    counted_bytes: int = 0
    tokens: int = 0


def estimate(
    plan: Plan, config: CorpusConfig, count_tokens: Callable[[list[str]], list[int]]
) -> CorpusEstimate:
    """Estimates a corpus from the beginnings of some of its ranges.

    Args:
        plan: The plan, with its splits.
        config: How records become rows.
        count_tokens: Counts the tokens of texts.

    Raises:
        InputError: A sampled file is gone or has changed since the plan.
    """
    kinds: dict[tuple[str, str], list[FileRange]] = defaultdict(list)
    for split in plan.splits:
        for file in split.ranges:
            kinds[file.format, file.compression].append(file)
    records = documents = text_bytes = tokens = 0.0
    for files in kinds.values():
        sample = _sample_of(files, plan, config, count_tokens)
        share = sum(map(_units, files)) / max(1, sample.units)
        records += sample.records * share
        documents += sample.documents * share
        text_bytes += sample.text_bytes * share
        tokens += sample.text_bytes * share * sample.tokens / max(1, sample.counted_bytes)
    if config.limit is not None and records > config.limit:
        # The last split of a trial is not read to its end.
        part = config.limit / records
        records, documents, text_bytes, tokens = (
            part * whole for whole in (records, documents, text_bytes, tokens)
        )
    return CorpusEstimate(
        files=plan.files,
        splits=len(plan.splits),
        bytes=plan.total_bytes,
        records=round(records),
        documents=round(documents),
        text_bytes=round(text_bytes),
        tokens=round(tokens),
    )


def _units(file: FileRange) -> int:
    """Returns the size of a range: rows where they are known, else bytes as stored."""
    return file.stored if file.rows is None else file.rows


def _sample_of(
    files: Sequence[FileRange],
    plan: Plan,
    config: CorpusConfig,
    count_tokens: Callable[[list[str]], list[int]],
) -> _Sample:
    sample = _Sample()
    columns = Columns.of(config, plan.metadata)
    chosen = [file for file in files if _units(file)]
    for file in chosen[:: -(-len(chosen) // _SAMPLED_RANGES) or 1]:
        texts, records, units = _beginning(file, plan, config, columns)
        counted = texts[:: -(-len(texts) // _SAMPLED_TEXTS) or 1]
        sample.units += units
        sample.records += records
        sample.documents += len(texts)
        sample.text_bytes += _size(texts)
        sample.counted_bytes += _size(counted)
        sample.tokens += sum(count_tokens(counted)) if counted else 0
    return sample


def _beginning(
    file: FileRange, plan: Plan, config: CorpusConfig, columns: Columns
) -> tuple[list[str], int, int]:
    """Returns texts and count of the records where a range begins, and how much of it they are."""
    piece = file
    cuttable = file.format != "text" or config.text_unit != "file"
    most = _SAMPLED_BYTES_OF.get(file.compression, _SAMPLED_BYTES)
    if file.format != "parquet" and cuttable and file.stored > most:
        # Cut short, a compressed file looks damaged, and what comes before that is the sample.
        piece = replace(file, end=file.start + most, stored=most)
    texts: list[str] = []
    rows = read = size = 0
    with closing(read_records(piece, config, columns)) as batches:
        for records in batches:
            read += len(records)
            for part in in_parts(records, columns, config.max_record_bytes):
                if size > _MOST_TEXT_BYTES:
                    break
                made = make_documents(part, columns, plan.schema, config.max_record_bytes)
                found = made.rows.column("text").to_pylist()
                if columns.query is not None:
                    queries = made.rows.column(columns.query).to_pylist()
                    found = [
                        f"{one} {text.replace(SEPARATOR, f'{SEPARATOR}{one} ')}"
                        for one, text in zip(queries, found, strict=True)
                    ]
                texts.extend(found)
                size += _size(found)
                rows += len(part)
            if file.rows is not None and size > _SAMPLED_BYTES:
                break
    if file.rows is not None:
        return texts, rows, rows
    return texts, rows, piece.stored * rows // read if rows < read else piece.stored


def _size(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)
