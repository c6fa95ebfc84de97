"""Which script of Unicode texts are written in, told by their first characters."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

CHARACTERS = 256
"""Characters of a text that are looked at."""

NO_LETTERS = "none"
"""Stands for texts of digits, punctuation and symbols alone, which are of any script."""

MIXED = "mixed"
"""Stands for texts of which no script has most letters."""

_TABLE = Path(__file__).with_name("unicode_scripts.json")
_END = 0x110000
_MOST = 0.7
_JAPANESE, _KOREAN = "Jpan", "Kore"
_WRITTEN_WITH_HAN = {"Hira": _JAPANESE, "Kana": _JAPANESE, "Hang": _KOREAN}
_HAN = "Hani"
_LATIN = "Latn"
_LEAST_BESIDE_HAN = 0.1
_FAULTY = ((0x80, 0x84), (0x86, 0x9F), (0xE000, 0xF8FF), (0xFFFD, 0xFFFD), (0xF0000, _END - 1))
"""Control characters of Latin-1, those of nobody, and what stands for bytes that are no text."""


@dataclass(frozen=True, eq=False)
class Written:
    """How the texts of some rows are written.

    Attributes:
        names: Codes of scripts (ISO 15924), ``mixed`` and ``none``.
        codes: The place among them of each text's, int64, shape (rows,).
        faulty: Whether it has a character that no text has: bytes were read in another encoding
            than they were written in, or were none of a text. Boolean, shape (rows,).
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    faulty: NDArray[np.bool_]


def written_in(texts: pa.Array) -> Written:
    """Tells how texts are written, by their first ``CHARACTERS`` characters.

    A text is of the script that at least 70 % of its letters have; Japanese and Korean count as one
    script each, with the Chinese characters among theirs.

    Args:
        texts: Strings without nulls.
    """
    starts = pc.utf8_slice_codeunits(texts, 0, CHARACTERS)
    is_ascii = pc.string_is_ascii(starts)
    others = _by_characters(starts.filter(pc.invert(is_ascii)))
    names = tuple(dict.fromkeys((*others.names, _LATIN)))
    # ASCII has letters of one script alone, and most texts may be of it.
    has_letters = pc.match_substring_regex(starts, "[A-Za-z]").to_numpy(False)
    codes = np.where(has_letters, names.index(_LATIN), names.index(NO_LETTERS))
    faulty = np.zeros(len(codes), np.bool_)
    rest = ~is_ascii.to_numpy(False)
    codes[rest], faulty[rest] = others.codes, others.faulty
    return Written(names, codes, faulty)


def _by_characters(starts: pa.Array) -> Written:
    lengths = pc.utf8_length(starts).to_numpy()
    characters = np.frombuffer("".join(starts.to_pylist()).encode("utf-32-le"), "<u4")
    names, table = _scripts()
    kinds = table[characters]
    rows = np.repeat(np.arange(len(lengths)), lengths)
    # A text has few of all scripts, and so have all texts of a block.
    present = np.flatnonzero(np.bincount(kinds, minlength=len(names) + 2))
    places = np.zeros(len(names) + 2, np.int64)
    places[present] = np.arange(len(present))
    counts = np.bincount(
        rows * len(present) + places[kinds], minlength=len(lengths) * len(present)
    ).reshape(len(lengths), len(present))
    by_name = {
        names[kind - 1]: counts[:, place]
        for place, kind in enumerate(present)
        if 0 < kind <= len(names)
    }
    return _named(by_name, counts[:, present == len(names) + 1].sum(axis=1) > 0)


def _named(by_name: dict[str, NDArray[np.int64]], faulty: NDArray[np.bool_]) -> Written:
    if _HAN in by_name:
        _with_han(by_name)
    known = (MIXED, NO_LETTERS, *by_name)
    if not by_name:
        return Written(known, np.ones(len(faulty), np.int64), faulty)
    letters = np.stack(list(by_name.values()), axis=1)
    whole, most = letters.sum(axis=1), letters.max(axis=1)
    codes = np.where(most >= _MOST * whole, letters.argmax(axis=1) + 2, 0)
    return Written(known, np.where(whole > 0, codes, 1), faulty)


def _with_han(by_name: dict[str, NDArray[np.int64]]) -> None:
    """Counts Chinese characters as Japanese or Korean where they stand among such letters."""
    for name in (_JAPANESE, _KOREAN):
        beside, han = by_name.get(name), by_name[_HAN]
        if beside is not None:
            is_beside = beside >= _LEAST_BESIDE_HAN * (beside + han)
            by_name[name] = np.where(is_beside, beside + han, beside)
            by_name[_HAN] = np.where(is_beside, 0, han)


@lru_cache(1)
def _scripts() -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Reads the table of scripts.

    Returns:
        The names of scripts, and of each character which of them it has: 0 for none, as digits and
        marks have none, 1 for the first, and one more than there are for what no text has.
    """
    ranges: dict[str, list[list[int]]] = json.loads(_TABLE.read_text())
    names = tuple(dict.fromkeys(_WRITTEN_WITH_HAN.get(name, name) for name in ranges))
    table = np.zeros(_END, np.uint8)
    for name, runs in ranges.items():
        for first, last in runs:
            table[first : last + 1] = names.index(_WRITTEN_WITH_HAN.get(name, name)) + 1
    for first, last in _FAULTY:
        table[first : last + 1] = len(names) + 1
    return names, table
