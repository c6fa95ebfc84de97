"""Records of small files of labels, each with the place to name where it is wrong."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from embedkit.errors import InputError

_MOST_FIELD = 1 << 24


def json_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Reads the objects of a JSONL file, each with its place for a person.

    Raises:
        InputError: The file cannot be read, or a line of it is no object.
    """
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: no JSON ({error}); mend or remove it") from error
        if not isinstance(record, dict):
            raise InputError(f"{place}: no object, expected one such as {{...}}; mend it")
        yield place, record


def rows_of_table(path: Path, delimiter: str, quoted: bool) -> Iterator[tuple[str, list[str]]]:
    """Reads the rows of a CSV or TSV file, its header among them, each with its place.

    Raises:
        InputError: The file cannot be read, or its quotes do not match.
    """
    csv.field_size_limit(_MOST_FIELD)
    lines = _lines(path)
    if quoted:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        rows = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    try:
        for row in rows:
            if row:
                yield f"{path}, line {rows.line_num}", row
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: {error}; mend it") from error


def id_of(record: Mapping[str, Any], place: str) -> str:
    """Returns the id of a record, from ``_id``, as BEIR has it, or ``id``.

    Raises:
        InputError: It has none.
    """
    value = record.get("_id", record.get("id"))
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise InputError(f"{place}: no _id; give every record one")
    return str(value)


def text_of(record: Mapping[str, Any], name: str, place: str) -> str:
    """Returns a text of a record; empty where it lacks it.

    Raises:
        InputError: It is no text.
    """
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {name} is a {type(value).__name__}, expected a text; mend it")
    return value


def _lines(path: Path) -> Iterator[str]:
    try:
        # Line ends within quotes are the reader's to judge.
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no UTF-8 ({error.reason}); convert it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from error
