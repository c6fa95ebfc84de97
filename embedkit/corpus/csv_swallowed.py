"""Tells a quoted field of several lines from two stray quotes with records between them."""

import re
from collections.abc import Sequence

_RUNS = re.compile(r"[^\W\d_]+|\d+")
_HEX = re.compile(r"[0-9a-fA-F]{8,}(?:-?[0-9a-fA-F]+)*")
_LEAST_PLAIN = 3
_LEAST_DIGITS = 4
"""So many digits in a row make a key, not a number that prose may begin with."""


def swallows_records(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Tells whether the lines of a record look like records themselves, every one of them.

    They do where all of them begin, or end, with what looks like a key: numbers that count up by
    one from the record's own, or values of the same form as its own that have many digits.
    Otherwise each must have as many fields as the header if quotes mean nothing. Beyond that a
    column must look like one of ids in all of them, or there are several lines and no field begins
    with a space or is empty, as it would be where the delimiter is a comma of prose.

    Args:
        lines: The lines of a record whose quotes are right, or the first of them.
        delimiter: What stands between two fields.
        width: How many fields the header has.
    """
    if width < 2 or len(lines) < 2:
        return False
    rows = [line.rstrip("\r").split(delimiter) for line in lines]
    if all(len(row) > 1 for row in rows) and _have_keys(rows):
        return True
    if any(len(row) != width for row in rows):
        return False
    if any(map(_are_ids, zip(*rows, strict=True))):
        return True
    behind = rows[1:]
    return len(behind) >= _LEAST_PLAIN and all(
        field and not field[0].isspace() for row in behind for field in row
    )


def may_swallow_records(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Tells whether all lines behind the first of a record could be records, or not quite that."""
    rows = [line.rstrip("\r").split(delimiter) for line in lines[1:]]
    return bool(rows) and all(
        len(row) >= width > 1 and all(one and not one[0].isspace() for one in row[:width])
        for row in rows
    )


def _have_keys(rows: Sequence[Sequence[str]]) -> bool:
    # Prose has a space behind its commas.
    tight = all(not row[1][:1].isspace() for row in rows[1:])
    return (tight and _are_keys([row[0] for row in rows])) or _are_keys([row[-1] for row in rows])


def _are_keys(values: Sequence[str]) -> bool:
    shapes = set(map(_shape, values))
    if len(shapes) > 1 or len(set(values)) < len(values):
        return False
    (shape,) = shapes
    if any(map(str.isspace, shape)) or not any(map(str.isdigit, shape)):
        return False
    numbers = [int(runs[-1][:18]) for one in values if (runs := re.findall(r"\d+", one))]
    first = numbers[0] if numbers else 0
    if len(numbers) == len(values) and numbers == list(range(first, first + len(numbers))):
        return True
    return shape.count("9") >= _LEAST_DIGITS and all(map(_is_long, values))


def _is_long(value: str) -> bool:
    return bool(_HEX.fullmatch(value)) or any(
        len(run) >= _LEAST_DIGITS for run in re.findall(r"\d+", value)
    )


def _shape(value: str) -> str:
    """Returns what values of one column have in common: the digits of a key, not its letters."""
    if _HEX.fullmatch(value):
        return re.sub("[^-]", "9", value)
    return _RUNS.sub(lambda run: "9" * _length(run[0]) if run[0].isdigit() else "a", value)


def _length(digits: str) -> int:
    # Short numbers count up and become longer.
    return len(digits) if len(digits) >= _LEAST_DIGITS else 1


def _are_ids(column: tuple[str, ...]) -> bool:
    """Whether values are alike but for their letters and digits, and those of a pair in order."""
    shapes = {_RUNS.sub(lambda run: "9" if run[0].isdigit() else "a", one) for one in column}
    (shape, *others) = shapes
    if others or "9" not in shape or any(char.isspace() for char in shape):
        return False
    if len(column) > 2:
        return True
    first, second = (int(re.findall(r"\d+", one)[-1][:18]) for one in column)
    return second == first + 1
