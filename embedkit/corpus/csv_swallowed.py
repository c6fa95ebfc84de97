"""Whether a quoted field of several lines is one, or two stray quotes with records between them."""

import re
from collections.abc import Sequence

_RUNS = re.compile(r"[^\W\d_]+|\d+")
_LEAST_PLAIN = 3


def swallows_records(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Tells whether the lines of a record look like records themselves, every one of them.

    Each must have as many fields as the header if quotes mean nothing. Beyond that a column must
    look like one of ids in all of them, or there are several lines and no field begins with a
    space or is empty, as it would be where the delimiter is a comma of prose.

    Args:
        lines: The lines of a record whose quotes are right.
        delimiter: What stands between two fields.
        width: How many fields the header has.
    """
    if width < 2 or len(lines) < 2:
        return False
    rows = [line.rstrip("\r").split(delimiter) for line in lines]
    if any(len(row) != width for row in rows):
        return False
    if any(map(_are_ids, zip(*rows, strict=True))):
        return True
    behind = rows[1:]
    return len(behind) >= _LEAST_PLAIN and all(
        field and not field[0].isspace() for row in behind for field in row
    )


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
