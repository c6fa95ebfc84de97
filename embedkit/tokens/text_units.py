"""Units of text, found by rules that look at the text around each of their ends alone.

Each function returns where the units of a text end, ascending; the last end is the text's. White
space belongs to the unit behind it, as tokenizers have it, and at the end of the text to the last.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from embedkit.tokens.borders import border_ranks, chosen_borders

Ends = NDArray[np.int64]
UnitEnds = Callable[[str], Ends]

# Stops that white space follows, and those of scripts that put none between sentences.
_STOPS = ".!?\u2026\u203c\u203d\u2047-\u2049"
_STOPS += "\u0589\u061f\u06d4\u0964\u0965\u1362\u104a\u104b\u17d4\u17d5"
_FULL_STOPS = "\u3002\uff01\uff0e\uff1f\uff61"
_CLOSING = "\"')\\]}\u2019\u201d\u00bb\u203a\u300d\u300f\uff09\u3011\u300b"
# A letter or two behind which a stop shortens a word: J. Smith, Dr. No.
_SHORT = r"(?<!\b[A-Z])(?<!\b[A-Z][a-z])"
_SENTENCE_END = re.compile(
    rf"(?<![{_STOPS}]){_SHORT}[{_STOPS}]++[{_CLOSING}]*+(?=\s++(\S))"
    rf"|(?<![{_FULL_STOPS}])[{_FULL_STOPS}]++[{_CLOSING}]*+"
)
_LINE_END = re.compile(r"(?<=\S)[^\S\r\n]*+[\r\n]\s*+")
_ONE_LINE_END = re.compile(r"\r\n?|\n")
_WORD = re.compile(r"\S+")

_PIECE = 32
"""Most characters of a piece of a word."""

_JOINER = 0x200D
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)


def paragraph_ends(text: str) -> Ends:
    """Returns where a blank line follows."""
    return _complete(text, _blank_lines(text))


def sentence_line_ends(text: str) -> Ends:
    """Returns where a sentence ends with its line, or a blank line follows."""
    lines = {run.start() for run in _LINE_END.finditer(text)}
    return _complete(text, (end for end in _sentences(text) if end in lines), _blank_lines(text))


def sentence_ends(text: str) -> Ends:
    """Returns where sentences end, or a blank line follows; other line ends do not count."""
    return _complete(text, _sentences(text), _blank_lines(text))


def line_ends(text: str) -> Ends:
    """Returns where lines end."""
    return _complete(text, (run.start() for run in _LINE_END.finditer(text)))


def word_ends(text: str) -> Ends:
    """Returns where words end, which white space parts."""
    return _complete(text, (word.end() for word in _WORD.finditer(text)))


def piece_ends(text: str) -> Ends:
    """Returns where pieces of some characters end, in text without white space.

    No piece ends within what is seen as one character, as an accent is on its letter.
    """
    places = _places_between_characters(text)
    return places[chosen_borders(places, border_ranks(text, places[1:-1]), _PIECE)[1:]]


def character_ends(text: str) -> Ends:
    """Returns the end of every character."""
    return np.arange(1, len(text) + 1)


SENTENCES: tuple[UnitEnds, ...] = (
    sentence_ends, line_ends, word_ends, piece_ends, character_ends,
)  # fmt: skip
"""Sentences, and what they are cut into that are too long, and so on."""

PARAGRAPHS: tuple[UnitEnds, ...] = (paragraph_ends, sentence_line_ends, *SENTENCES)
"""Paragraphs, and what they are cut into that are too long, and so on."""


def _sentences(text: str) -> Iterable[int]:
    for found in _SENTENCE_END.finditer(text):
        if not (found[1] or "").islower():
            yield found.end()


def _blank_lines(text: str) -> Iterable[int]:
    for run in _LINE_END.finditer(text):
        if len(run[0]) > 1 and len(_ONE_LINE_END.findall(run[0])) > 1:
            yield run.start()


def _places_between_characters(text: str) -> Ends:
    """Returns the ends of a text and all places where what is seen as one character is not cut."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    marks = [ord(one) for one in set(text) if unicodedata.category(one)[0] == "M"]
    parted = ~np.isin(codes, np.array([*marks, *_SKIN_TONES, _JOINER], np.uint32))
    parted[1:] &= codes[:-1] != _JOINER
    flags = np.isin(codes, np.array(_FLAG_LETTERS, np.uint32))
    parted[1:] &= ~(flags[1:] & flags[:-1])
    parted[0] = True
    return np.append(np.flatnonzero(parted), len(text))


def _complete(text: str, *ends: Iterable[int]) -> Ends:
    """Sorts ends, and lets the last unit end with the text."""
    last = len(text.rstrip())
    inner = {end for some in ends for end in some if end < last}
    return np.array([*sorted(inner), len(text)], np.int64)
