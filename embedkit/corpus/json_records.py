"""Records of ``.json`` files: one array of objects, or an object per line."""

from collections.abc import Iterator

import orjson

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.documents import Records
from embedkit.corpus.encodings import HEAD, Peeked, open_text
from embedkit.corpus.json_array import iter_elements
from embedkit.corpus.lines import BOM, Lines, iter_lines
from embedkit.corpus.splits import FileRange
from embedkit.corpus.text_records import drop_blank, object_records
from embedkit.records import LineCounts


def read_json(file: FileRange, config: CorpusConfig, columns: Columns) -> Iterator[Records]:
    """Reads the elements of an array, or the lines; the place of a record is its number."""
    with open_text(file, config) as opened:
        stream = Peeked(opened)
        if _start(stream.head).startswith(b"["):
            pieces = iter_elements(stream, config.max_record_bytes, opened.end)
        else:
            pieces = _numbered(iter_lines(stream, 0, 0, opened.end, config.max_record_bytes))
        for piece in pieces:
            yield object_records(piece, file, config, columns)


def holds_records(file: FileRange, config: CorpusConfig) -> bool:
    """Tells whether a file holds an array or lines, rather than one object over several lines.

    Raises:
        InputError: It cannot be opened.
    """
    with open_text(file, config, fetch=HEAD) as opened:
        first, end, _ = _start(Peeked(opened).head).partition(b"\n")
    if not first.startswith(b"{") or not end:
        return True
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        # A line that is cut off is a broken record; one that goes on belongs to a larger object.
        return not first.rstrip().endswith((b"{", b"[", b",", b":"))
    return True


def _start(head: bytes) -> bytes:
    return head.removeprefix(BOM).lstrip()


def _numbered(pieces: Iterator[Lines]) -> Iterator[Lines]:
    number = 0
    for piece in pieces:
        read = len(piece.lines)
        drop_blank(piece)
        piece.counts += LineCounts(blank=read - len(piece.lines))
        piece.starts = list(range(number, number + len(piece.lines)))
        number += len(piece.lines)
        if piece.long:
            piece.long = piece.long._replace(start=number)
            number += 1
        if piece.damage:
            piece.damage = piece.damage._replace(start=number)
        yield piece
