"""Digests of ids: of one id for finding repeats, of a set of ids for comparing datasets."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.digests import hashes_of

_BYTES = 16


def id_hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """Returns the 128-bit BLAKE2b hashes of ids, as pairs of uint64, shape (rows, 2)."""
    return np.frombuffer(hashes_of(ids.to_pylist()), dtype="<u8").reshape(-1, 2)


def id_digest(ids: pa.Array) -> str:
    """Returns a digest of a set of ids, 32 hex digits; their order does not matter.

    It is the sum of their hashes modulo 2^128, so digests of disjoint sets add up.
    """
    return digest_of(id_hashes(ids))


def digest_of(hashes: NDArray[np.uint64]) -> str:
    """Returns the ``id_digest`` of ids whose hashes are known."""
    halves = hashes.view("<u4").reshape(-1, 4).sum(axis=0, dtype=np.uint64)
    total = sum(int(half) << (32 * place) for place, half in enumerate(halves))
    return _hex(total)


def add_digests(digests: Iterable[str]) -> str:
    """Returns the digest of the union of disjoint sets from theirs."""
    return _hex(sum(int(digest, 16) for digest in digests))


def _hex(total: int) -> str:
    return f"{total % (1 << (8 * _BYTES)):0{2 * _BYTES}x}"
