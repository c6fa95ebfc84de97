"""BLAKE2b: of texts and ids, by which equal ones are found, and of what names things."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

_BYTES = 16


def hash_of(data: bytes | memoryview, size: int = _BYTES) -> bytes:
    """Returns the hash of bytes, so many bytes long."""
    return blake2b(data, digest_size=size).digest()


def hashes_of(texts: Iterable[str], size: int = _BYTES) -> bytes:
    """Returns the hashes of texts one behind the other, each so many bytes long."""
    return b"".join([blake2b(text.encode(), digest_size=size).digest() for text in texts])


def digest(*parts: str) -> str:
    """Returns a 128-bit hex digest of strings, unambiguous in where each one ends."""
    hasher = blake2b(digest_size=_BYTES)
    for part in parts:
        hasher.update(_with_length(part.encode("utf-8", "surrogatepass")))
    return hasher.hexdigest()


def place_id(source: str, row_index: int) -> str:
    """Derives the id of a record without one from its place, stable across runs and machines."""
    return digest(source, str(row_index))


def place_ids(source: str, row_index: Sequence[int]) -> list[str]:
    """Returns ``place_id`` of many records of one source, which it hashes only once."""
    head = blake2b(_with_length(source.encode("utf-8", "surrogatepass")), digest_size=_BYTES)
    ids = []
    for row in row_index:
        hasher = head.copy()
        hasher.update(_with_length(b"%d" % row))
        ids.append(hasher.hexdigest())
    return ids


def text_hash(text: str) -> str:
    """Returns the 128-bit hex digest of a text, by which equal texts are found."""
    return blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data
