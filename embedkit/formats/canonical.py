"""JSON in one way only, and checksums of what was written so."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

CHECKSUM = "checksum"

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
    """Yields what ``canonical_json`` writes, but for its last line's end.

    A plan names a million files in short lists, over which the library's own iteration, which is
    written in Python, takes ten times as long.

    Args:
        value: Something that JSON has.
        line: The end of a line, and how far the next one is indented.
    """
    inner = line + "  "
    if isinstance(value, dict) and value:
        before = "{"
        for name in sorted(value):
            yield f"{before}{inner}{_text(name)}: "
            yield from _pieces(value[name], inner)
            before = ","
        yield line + "}"
    elif isinstance(value, list | tuple) and value:
        if _is_flat(value):
            yield _flat(value, line)
            return
        before = "["
        for one in value:
            if isinstance(one, list | tuple) and one and _is_flat(one):
                yield before + inner + _flat(one, inner)
            else:
                yield before + inner
                yield from _pieces(one, inner)
            before = ","
        yield line + "]"
    else:
        yield _scalar(value)


def _is_flat(values: Sequence[Any]) -> bool:
    return not any(isinstance(one, dict | list | tuple) for one in values)


def _flat(values: Sequence[Any], line: str) -> str:
    inner = line + "  "
    return f"[{inner}{f',{inner}'.join(map(_scalar, values))}{line}]"


def _scalar(value: Any) -> str:
    if type(value) is str:
        return _text(value)
    if value is None:
        return "null"
    return repr(value) if type(value) is int else _other(value)


_text = json.encoder.encode_basestring_ascii
_other = json.JSONEncoder(allow_nan=False).encode


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
