"""Vectors in fewer bytes: 8 bits for each component by its range, or one bit by its sign.

The formulas are faiss's (``QT_8bit``) and sentence-transformers' (``quantize_embeddings``):

    uint8   code = floor((x - low) / step), kept within 0 and 255, where step = (high - low) / 255
            x is about low + (code + 0.5) * step, at most half a step off unless it was clipped
    int8    the same code less 128
    binary  bit = x > 0, eight of them in a byte, the first component in the highest bit
            x is about 1 where the bit is set, else -1

Low and high are of each component by itself, over the vectors that codes are calibrated with.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_LEVELS = 255
_SHIFT = 128

Matrix = NDArray[np.floating[Any]]
"""Vectors, shape (rows, dimension)."""


@dataclass(frozen=True)
class Ranges:
    """The range of each component of some vectors, by which codes of 8 bits are made.

    Adding is associative and commutative: ranges of parts, added, are those of the whole.

    Attributes:
        low: Smallest values, float32, shape (dimension,).
        high: Largest values, likewise.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, vectors: Matrix) -> Self:
        """Takes the ranges of vectors, at least one."""
        exact = vectors.astype(np.float32, copy=False)
        return cls(exact.min(axis=0), exact.max(axis=0))

    def __add__(self, other: Self) -> Self:
        """Returns the ranges of both sets of vectors."""
        return type(self)(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def steps(self) -> NDArray[np.float32]:
        """What codes that differ by one differ by; 0 of a component that is constant."""
        return (self.high - self.low) / np.float32(_LEVELS)

    def clipped(self, vectors: Matrix) -> NDArray[np.bool_]:
        """Tells which components of vectors lie outside, whose codes are those of the ends."""
        outside: NDArray[np.bool_] = (vectors < self.low) | (vectors > self.high)
        return outside


def to_uint8(vectors: Matrix, ranges: Ranges) -> NDArray[np.uint8]:
    """Returns codes from 0 to 255, shape (rows, dimension)."""
    steps = ranges.steps
    places = (vectors.astype(np.float32, copy=False) - ranges.low) / np.where(steps > 0, steps, 1)
    codes: NDArray[np.uint8] = np.clip(np.floor(places), 0, _LEVELS).astype(np.uint8)
    return codes


def from_uint8(codes: NDArray[np.uint8], ranges: Ranges) -> NDArray[np.float32]:
    """Returns the vectors that codes stand for, each component in the middle of its step."""
    half = np.float32(0.5)
    return ranges.low + (codes.astype(np.float32) + half) * ranges.steps


def to_int8(vectors: Matrix, ranges: Ranges) -> NDArray[np.int8]:
    """Returns codes from -128 to 127, shape (rows, dimension)."""
    return (to_uint8(vectors, ranges).astype(np.int16) - _SHIFT).astype(np.int8)


def from_int8(codes: NDArray[np.int8], ranges: Ranges) -> NDArray[np.float32]:
    """Returns the vectors that codes stand for, see ``from_uint8``."""
    return from_uint8((codes.astype(np.int16) + _SHIFT).astype(np.uint8), ranges)


def to_bits(vectors: Matrix) -> NDArray[np.uint8]:
    """Returns a bit for each component, eight in a byte, shape (rows, ceil(dimension / 8))."""
    return np.packbits(vectors > 0, axis=-1)


def from_bits(bits: NDArray[np.uint8], dimension: int) -> NDArray[np.float32]:
    """Returns 1 for each bit that is set and -1 for each other, shape (rows, dimension)."""
    signs: NDArray[np.float32] = np.unpackbits(bits, axis=-1, count=dimension).astype(np.float32)
    return 2 * signs - 1


def bytes_of_bits(dimension: int) -> int:
    """Returns how many bytes the bits of a vector take."""
    return -(-dimension // 8)
