"""What the characters of a text are: white space, parts of the character before them, and so on."""

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

WHITE = 1
"""White space, as ``str.isspace`` tells."""

JOINED = 2
"""Belongs to the character before it: marks, joiners, and what else a reader sees no part by."""

LETTER = 4

SEEN = 8
"""Something is drawn of it."""

ZERO_WIDTH_JOINER = 0x200D

_UNSEEN_KINDS = frozenset(["Cc", "Cf", "Zs", "Zl", "Zp"])
# Letters, symbols and marks by their category of which nothing is drawn: joiners, fillers, the
# blank of braille, and what chooses a variant of the character before it.
_UNSEEN = frozenset(
    [
        "\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\uffa0",
        *map(chr, range(0x180B, 0x1810)), *map(chr, range(0xFE00, 0xFE10)),
        *map(chr, range(0xE0100, 0xE01F0)),
    ]
)  # fmt: skip
# Not marks, yet joined: joiners, vowels and final consonants of Korean syllables, voiced sounds of
# narrow Japanese letters, the colours of emoji, and the letters of flags' regions.
_JOINED = frozenset(
    [
        "\u200c", "\u200d", "\uff9e", "\uff9f", *map(chr, range(0x1160, 0x1200)),
        *map(chr, range(0xD7B0, 0xD7FC)), *map(chr, range(0x1F3FB, 0x1F400)),
        *map(chr, range(0xE0020, 0xE0080)),
    ]
)  # fmt: skip
# In between are ideographs alone, behind it nothing that has a meaning.
_VARIED = (range(0x20000), range(0xE0000, 0xE1000))


def is_seen(text: str) -> bool:
    """Tells whether a text has a visible character."""
    return any(
        char not in _UNSEEN and unicodedata.category(char) not in _UNSEEN_KINDS for char in text
    )


def kinds_of(text: str) -> NDArray[np.uint8]:
    """Returns what each character is, as a sum of the names above, shape (characters,)."""
    kinds: NDArray[np.uint8] = _table()[codes_of(text)]
    return kinds


def codes_of(text: str) -> NDArray[np.uint32]:
    """Returns the code points of a text, shape (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


@functools.cache
def _table() -> NDArray[np.uint8]:
    table = np.full(0x110000, LETTER | SEEN, dtype=np.uint8)
    for codes in _VARIED:
        for code in codes:
            char = chr(code)
            kind = unicodedata.category(char)
            joined = kind[0] == "M" or char in _JOINED
            seen = char not in _UNSEEN and kind not in _UNSEEN_KINDS
            table[code] = (
                WHITE * char.isspace()
                | JOINED * joined
                | LETTER * (kind[0] == "L" and not joined)
                | SEEN * seen
            )
    return table
