"""JSON in one way only, and checksums of what was written so."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

CHECKSUM = "checksum"

_ROWS_AT_ONCE = 10_000
_SCALARS = frozenset({str, int, float, bool, type(None)})

# A line of the object itself, for those of objects in it are indented further.
_CHECKSUM_LINE = re.compile(rb'^  "checksum": "([0-9a-f]{64})",\n', re.MULTILINE)


def canonical_json(value: Any) -> bytes:
    """Serializes a value in one way only: sorted keys, ASCII, two spaces, a final newline."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of bytes as hex."""
    return hashlib.sha256(data).hexdigest()


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with a checksum of all else that is in it."""
    rest = {name: value for name, value in record.items() if name != CHECKSUM}
    return {**rest, CHECKSUM: _checksum(rest)}


def _checksum(value: Any) -> str:
    """Returns the SHA-256 of a value's ``canonical_json``, which may be too long to be held."""
    hasher = hashlib.sha256()
    for piece in _pieces(value, "\n"):
        hasher.update(piece.encode())
    hasher.update(b"\n")
    return hasher.hexdigest()


def _pieces(value: Any, line: str) -> Iterator[str]:
    """Yields the canonical form of a value, as that of the library takes seconds of a large plan.

    Only that of the library without indentation is in C. What has no container in it is written by
    that one, with the line breaks as separators: in its strings there are none.

    Args:
        value: JSON values; names in objects are strings.
        line: The line break and the indentation that the value stands at.
    """
    inner = line + "  "
    if not isinstance(value, (dict, list, tuple)) or not value:
        yield _encoder(inner)(value)
    elif _is_flat(value.values() if isinstance(value, dict) else value):
        text = _encoder(inner)(value)
        yield f"{text[0]}{inner}{text[1:-1]}{line}{text[-1]}"
    elif isinstance(value, dict):
        before = "{"
        for name, one in sorted(value.items()):
            yield f"{before}{inner}{_encoder(inner)(name)}: "
            yield from _pieces(one, inner)
            before = ","
        yield line + "}"
    else:
        before = "["
        for start in range(0, len(value), _ROWS_AT_ONCE):
            for piece in _rows(value[start : start + _ROWS_AT_ONCE], inner):
                yield before + inner
                yield from piece
                before = ","
        yield line + "]"


def _rows(rows: Sequence[Any], line: str) -> Iterator[Iterable[str]]:
    """Yields the pieces of each member of a list, or those of all where they are flat lists."""
    if not all(isinstance(row, (list, tuple)) and row and _is_flat(row) for row in rows):
        yield from (_pieces(row, line) for row in rows)
        return
    inner = line + "  "
    text = _encoder(inner)(rows)[2:-2].replace(f"],{inner}[", f"{line}],{line}[{inner}")
    yield (f"[{inner}{text}{line}]",)


def _is_flat(values: Iterable[Any]) -> bool:
    return _SCALARS.issuperset(map(type, values))


@cache
def _encoder(line: str) -> Callable[[Any], str]:
    return json.JSONEncoder(sort_keys=True, allow_nan=False, separators=("," + line, ": ")).encode


def checksum_holds(record: dict[str, Any]) -> bool:
    """Whether an object is what was written; earlier releases wrote no checksum."""
    return CHECKSUM not in record or record == with_checksum(record)


def checksum_in_holds(data: bytes) -> bool:
    """Whether a serialized object is what was written.

    Of an object that stands as ``canonical_json`` wrote it, nothing is read but the bytes.

    Raises:
        ValueError: The bytes are not JSON, which knows no NaN and no infinity.
    """
    line = _CHECKSUM_LINE.search(data)
    if line and sha256(data[: line.start()] + data[line.end() :]).encode() == line[1]:
        return True
    return checksum_holds(json.loads(data, parse_float=_finite, parse_constant=_finite))


def load_json(data: bytes | str) -> Any:
    """Reads JSON.

    Raises:
        ValueError: It is none, or nested more deeply than anything that embedkit writes.
    """
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        # Python reads it, and nobody else; nor can it be written again.
        raise ValueError(f"not valid JSON ({number[:20]} is not finite)")
    return value
