"""Cuts batches of records so that the texts made of them fit into memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from embedkit.corpus.columns import Columns, text_lengths
from embedkit.corpus.documents import Records

_MOST_CHARS = 1 << 24
_SLICE_ROWS = 4096
_SLICE_CHARS = 1 << 26


def in_parts(records: Records, columns: Columns, max_record_bytes: int) -> Iterator[Records]:
    """Cuts records where a template would make much more text of them than they hold.

    Args:
        records: What was read; each record and reject comes out once, in the same order.
        columns: What the text is made of.
        max_record_bytes: A longer text is not made.
    """
    if not columns.templated or len(records.row_index) < 2:
        yield records
        return
    lengths = text_lengths(records.columns, columns)
    ends = np.cumsum(np.where(lengths <= max_record_bytes, lengths, 0))
    start, count = 0, len(ends)
    while start < count:
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + _MOST_CHARS, side="right"))
        stop = min(count, max(start + 1, stop))
        yield _part(records, start, stop) if stop - start < count else records
        start = stop


def slices(rows: Iterable[Iterable[Any]]) -> Iterator[tuple[int, int]]:
    """Cuts rows of values so that no slice's text comes near what one Arrow batch can hold.

    Yields:
        Where each slice starts, and where the next one does.
    """
    start = size = stop = 0
    for number, row in enumerate(rows):
        length = sum(len(value) for value in row if isinstance(value, str))
        if number > start and (size + length > _SLICE_CHARS or number - start == _SLICE_ROWS):
            yield start, number
            start, size = number, 0
        size += length
        stop = number + 1
    if stop:
        yield start, stop


def _part(records: Records, start: int, stop: int) -> Records:
    rows = records.row_index
    return replace(
        records,
        row_index=rows[start:stop],
        columns={name: values[start:stop] for name, values in records.columns.items()},
        rejects=[
            one
            for one in records.rejects
            if (start == 0 or one.row_index > rows[start])
            and (stop == len(rows) or one.row_index < rows[stop])
        ],
        raw=None if records.raw is None else records.raw[start:stop],
        unfit={
            name: {place - start: what for place, what in values.items() if start <= place < stop}
            for name, values in records.unfit.items()
        },
    )
