"""Texts that more than one row has, over a whole version."""

from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.repeats import RepeatedHashes
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


def name_repeats(
    found: RepeatedHashes, read: Callable[[list[int]], pa.Table | pa.RecordBatch]
) -> TextRepeats:
    """Names the most repeated texts.

    They are told apart by the first 64 bits of their hash, which two different texts share with a
    chance of about n * n / 2**65 for n texts: one in forty million for a million of them.

    Args:
        found: The hashes that occur more than once among those of all rows in their order, see
            ``hash64``.
        read: Reads ``COLUMNS`` of some rows, and ``text`` where it is stored, given their places
            among all rows, ascending.
    """
    counts = {one.first: one.count for one in found.top}
    named: list[RepeatedText] = []
    if counts:
        places = sorted(counts)
        named = [
            _named(counts[one], row) for one, row in zip(places, _rows(read(places)), strict=True)
        ]
    top = tuple(sorted(named, key=lambda text: (-text.count, text.text_hash)))
    return TextRepeats(found.occurrences - found.hashes, found.hashes, top)


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
    arrays = text_hashes.chunks if isinstance(text_hashes, pa.ChunkedArray) else [text_hashes]
    digits = b"".join(map(_characters, arrays))
    return np.frombuffer(unhexlify(digits), dtype=">u8")[::2].astype(np.uint64)


def _characters(strings: pa.StringArray) -> memoryview:
    """Returns the characters of all strings as they lie there, one behind the other."""
    _, offsets, characters = strings.buffers()
    if not len(strings):
        return memoryview(b"")
    bounds = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1]
    return memoryview(characters)[bounds[0] : bounds[-1]]
