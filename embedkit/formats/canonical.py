"""JSON in one way only, and checksums of what was written so."""

import hashlib
import json
import math
import re
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
    for piece in json.JSONEncoder(sort_keys=True, indent=2, allow_nan=False).iterencode(value):
        hasher.update(piece.encode())
    hasher.update(b"\n")
    return hasher.hexdigest()


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
