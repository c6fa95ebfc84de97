"""Columns that a JSON object has twice, of which parsers keep the last without a word."""

import json
from collections.abc import Iterable, Sequence

from embedkit.corpus.columns import Columns
from embedkit.corpus.documents import Records, excerpt
from embedkit.corpus.lines import Lines
from embedkit.records import Reject


def reject_twice(
    objects: list[dict[str, object]], piece: Lines, columns: Columns, records: Records
) -> None:
    """Rejects the records that have a column of their text, or their id, twice.

    Args:
        objects: The records as they were parsed.
        piece: The same as they stand in the file.
        columns: What is read of them.
        records: Takes the rejects.
    """
    names = (*columns.text_names, *(() if columns.id is None else (columns.id,)))
    found = _twice(piece.lines, names)
    for place in sorted(found, reverse=True):
        line, start = piece.lines.pop(place), piece.starts.pop(place)
        del objects[place]
        detail = f"has {', '.join(found[place])} twice; leave one of them out"
        records.rejects.append(
            Reject(records.source, start, "invalid_json", detail, excerpt=excerpt(line))
        )


def null_twice(piece: Lines, columns: Columns, records: Records) -> None:
    """Nulls the metadata values that are there twice, and notes them.

    Args:
        piece: The records as they stand in the file.
        columns: What is read of them.
        records: Holds the columns.
    """
    for name, _ in columns.metadata:
        for place in _twice(piece.lines, (name,)):
            records.columns[name][place] = None
            records.unfit.setdefault(name, {})[place] = "two values"


def _twice(lines: Sequence[bytes], names: Iterable[str]) -> dict[int, list[str]]:
    """Returns those of some columns that a line has twice, by its place among the lines."""
    # A column within another is named by both.
    outer = dict.fromkeys(key for name in names for key in (name, name.partition(".")[0]))
    found: dict[int, list[str]] = {}
    for key in outer:
        mark = json.dumps(key, ensure_ascii=False).encode("utf-8", "replace")
        for place in [place for place, line in enumerate(lines) if line.count(mark) > 1]:
            if _outermost(lines[place]).count(key) > 1:
                found.setdefault(place, []).append(repr(key))
    return found


def _outermost(line: bytes) -> list[str]:
    keys: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        # Of objects within each other the outermost ends last.
        keys[:] = [key for key, _ in pairs]

    try:
        json.loads(line, object_pairs_hook=note)
    except (ValueError, RecursionError):
        return []
    return keys
