"""Texts that more than one row has, over a whole version."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.uniqueness import placed_repeats
from embedkit.records import LINE_FIELD
from embedkit.reports.sample import excerpt

COLUMNS = ("text_hash", "id", "source", "row_index", LINE_FIELD.name)
"""What is read of a row to name it; ``text`` as well where it is stored."""


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
class TextRepeats:
    """How often texts repeat in a version.

    Attributes:
        rows: Rows that could go without losing a text.
        texts: Texts that more than one row has.
        top: The most repeated ones, most first.
    """

    rows: int = 0
    texts: int = 0
    top: tuple[RepeatedText, ...] = ()


def find_repeats(
    hashes: Iterable[NDArray[np.uint64]],
    read: Callable[[list[int]], pa.Table | pa.RecordBatch],
    top: int = 10,
) -> TextRepeats:
    """Finds texts that occur more than once, by the first 64 bits of their hash.

    Two different texts share those bits with a chance of about n * n / 2**65 for n texts: one in
    forty million for a million of them.

    Args:
        hashes: The hashes of all rows in their order, see ``hash64``; they are taken once.
        read: Reads ``COLUMNS`` of some rows, and ``text`` where it is stored, given their places
            among all rows, ascending.
        top: How many texts to name.
    """
    rows = texts = 0
    most: list[tuple[int, int, int]] = []
    for found in placed_repeats(hashes):
        rows += int(found.counts.sum()) - len(found.counts)
        texts += len(found.counts)
        order = np.lexsort((found.hashes, -found.counts))[:top]
        values = (found.counts[order], found.hashes[order], found.first[order])
        most += zip(*(column.tolist() for column in values), strict=True)
        most = sorted(most, key=lambda one: (-one[0], one[1]))[:top]
    counts = {first: count for count, _, first in most}
    named: list[RepeatedText] = []
    if counts:
        places = sorted(counts)
        named = [
            _named(counts[one], row) for one, row in zip(places, _rows(read(places)), strict=True)
        ]
    return TextRepeats(rows, texts, tuple(sorted(named, key=lambda t: (-t.count, t.text_hash))))


def _rows(table: pa.Table | pa.RecordBatch) -> list[dict[str, Any]]:
    names = [name for name in (*COLUMNS, "text") if name in table.schema.names]
    rows: list[dict[str, Any]] = table.select(names).to_pylist()
    return rows


def _named(count: int, row: dict[str, Any]) -> RepeatedText:
    text, line = row.pop("text", None), row.pop(LINE_FIELD.name, None)
    shown = None if text is None else excerpt(text)
    return RepeatedText(count=count, text=shown, line=line, **row)


def hash64(text_hashes: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """Returns the first 64 bits of hexadecimal text hashes, uint64, shape (n,).

    Args:
        text_hashes: Strings of 32 hexadecimal digits each, without nulls.
    """
    digits = "".join(text_hashes.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), dtype=">u8")[::2].astype(np.uint64)
