"""Exact duplicates of text, over a whole version."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.uniqueness import repeated
from embedkit.records import LINE_FIELD
from embedkit.reports.quality import hash64
from embedkit.reports.sample import excerpt

COLUMNS = ("text_hash", "id", "source", "row_index", LINE_FIELD.name)
"""Columns of a version that ``text_duplicates`` reads; ``text`` as well where it is stored."""


@dataclass(frozen=True, slots=True)
class RepeatedText:
    """A text that more than one row has.

    Attributes:
        count: How many rows have it.
        id: Id of the first of them.
        text_hash: Hash of the text.
        source: The file that the first of them came from.
        row_index: Its place there.
        line: Its line there, counted as ``LINE_FIELD`` until the report is written.
        text: The text's first characters, or None where the version stores no text.
    """

    count: int
    id: str
    text_hash: str
    source: str
    row_index: int
    line: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class TextDuplicates:
    """How often texts repeat in a version.

    Attributes:
        rows: Rows that could go without losing a text.
        texts: Texts that more than one row has.
        top: The most repeated ones, most first.
    """

    rows: int
    texts: int
    top: tuple[RepeatedText, ...]


def text_duplicates(read: Callable[[], Iterable[pa.RecordBatch]], top: int = 10) -> TextDuplicates:
    """Finds texts that occur more than once, by the first 64 bits of their hash.

    Two different texts share those bits with a chance of about n * n / 2**65 for n texts: one in
    forty million for a million of them.

    Args:
        read: Reads the version's rows in a fixed order, as batches with ``COLUMNS`` and, where it
            is stored, ``text``. It is called twice: once to count, once to name the first rows of
            the most repeated texts.
        top: How many texts to name.
    """
    hashes, counts = repeated(hash64(batch.column("text_hash")) for batch in read())
    most = np.lexsort((hashes, -counts.astype(np.int64)))[:top]
    wanted = {int(hashes[place]): int(counts[place]) for place in most}
    named = tuple(_first_rows(read(), wanted)) if wanted else ()
    return TextDuplicates(
        rows=int(counts.sum()) - len(counts),
        texts=len(counts),
        top=tuple(sorted(named, key=lambda text: (-text.count, text.text_hash))),
    )


def _first_rows(
    batches: Iterable[pa.RecordBatch], wanted: dict[int, int]
) -> Iterator[RepeatedText]:
    missing = np.array(list(wanted), dtype=np.uint64)
    for batch in batches:
        hashes = hash64(batch.column("text_hash"))
        found, places, missing = _find(hashes, missing)
        names = [name for name in (*COLUMNS, "text") if name in batch.schema.names]
        rows = batch.select(names).take(pa.array(places)).to_pylist()
        for value, row in zip(found, rows, strict=True):
            text, line = row.pop("text", None), row.pop(LINE_FIELD.name, None)
            shown = None if text is None else excerpt(text)
            yield RepeatedText(count=wanted[int(value)], text=shown, line=line, **row)
        if not len(missing):
            return


def _find(
    hashes: NDArray[np.uint64], missing: NDArray[np.uint64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]:
    """Which of the missing hashes occur, where each does first, and which are still missing."""
    candidates = np.flatnonzero(np.isin(hashes, missing))
    found, first = np.unique(hashes[candidates], return_index=True)
    return found, candidates[first], np.setdiff1d(missing, found)
