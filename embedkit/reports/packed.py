"""Arrays and texts as short strings within JSON: deflated, in base64."""

import base64
import json
import zlib
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from embedkit.formats.canonical import load_json


def pack(values: NDArray[Any]) -> str:
    """Writes whole numbers of up to 64 bits.

    All lowest bytes come first, then all that are next, up to the highest: of small numbers the
    higher bytes are all alike, and take no space.
    """
    planes = np.ascontiguousarray(values).astype("<i8").view(np.uint8).reshape(-1, 8).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def unpack(text: str) -> NDArray[np.int64]:
    """Reads back what ``pack`` wrote, as int64, shape (n,).

    Raises:
        ValueError: The text is something else.
    """
    data = _inflate(text)
    if len(data) % 8:
        raise ValueError("a packed array that is cut short")
    planes = np.frombuffer(data, np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view("<i8").reshape(-1).astype(np.int64)


def pack_texts(texts: tuple[str, ...]) -> str:
    """Writes texts."""
    return base64.b64encode(zlib.compress(json.dumps(texts).encode(), 9)).decode()


def unpack_texts(text: str) -> tuple[str, ...]:
    """Reads back what ``pack_texts`` wrote.

    Raises:
        ValueError: The text is something else.
    """
    texts = load_json(_inflate(text))
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise ValueError("packed texts that are none")
    return tuple(texts)


def _inflate(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"a {type(text).__name__}, expected a packed string")
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(f"not a packed string ({error})") from error


def _pack_ascending(values: NDArray[np.int64]) -> str:
    return pack(np.diff(values, prepend=0))


def _unpack_ascending(text: str) -> NDArray[np.int64]:
    return np.cumsum(unpack(text))


def _unpack_unsigned(text: str) -> NDArray[np.uint64]:
    return unpack(text).view(np.uint64)


Integers = Annotated[NDArray[np.int64], PlainValidator(unpack), PlainSerializer(pack)]
"""Whole numbers, int64, shape (n,)."""

Ascending = Annotated[
    NDArray[np.int64], PlainValidator(_unpack_ascending), PlainSerializer(_pack_ascending)
]
"""The same in ascending order, kept as the steps between them."""

Hashes = Annotated[NDArray[np.uint64], PlainValidator(_unpack_unsigned), PlainSerializer(pack)]
"""Hashes of 64 bits, uint64, shape (n,)."""

Texts = Annotated[tuple[str, ...], PlainValidator(unpack_texts), PlainSerializer(pack_texts)]
"""Texts, of which many are alike or of one language."""
