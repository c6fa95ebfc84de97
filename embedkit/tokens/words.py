"""Where the words of texts are: those of the tokenizer, matches of a pattern, or given words."""

import time
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import regex
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.tokens.characters import JOINED, LETTER, SEEN, WHITE, ZERO_WIDTH_JOINER, codes_of
from embedkit.tokens.placed_tokens import PlacedTokens

_PATIENCE = 10.0
"""Seconds that a pattern may take for a text."""

_CHARACTERS_A_SECOND = 100_000
"""A long text may take a second more for each of so many characters."""


def tokenizer_words(tokens: PlacedTokens) -> NDArray[np.int64]:
    """Finds the words that the tokenizer's own pre-tokenizer makes, without space around them.

    A pre-tokenizer that keeps white space within a word, or none, leaves what stands between white
    space. No word begins within a character that a reader sees as one, and a mark between two
    letters, which some pre-tokenizers take for a word, parts them not.

    Args:
        tokens: Tokens with where words begin.

    Returns:
        The places in ``tokens.text`` at which words begin and end, in their order, int64, shape
        (words, 2).
    """
    kinds = tokens.kinds
    size = len(kinds)
    inside, cut = _pre_tokenized(tokens)
    word = inside & ~(kinds & WHITE).astype(np.bool_)
    joined, letter = (kinds & JOINED).astype(np.bool_), (kinds & LETTER).astype(np.bool_)
    before = np.append(False, word[:-1])
    begins = np.flatnonzero(word & (cut | ~before))
    touching = before[begins]
    after_joiner = codes_of(tokens.text)[np.maximum(begins - 1, 0)] == ZERO_WIDTH_JOINER
    # The last character before a place that is no part of another one.
    places = np.arange(size)
    base = np.maximum.accumulate(np.where(joined, 0, places))[np.maximum(begins - 1, 0)]
    only_marks = np.zeros(len(begins), dtype=np.bool_)
    only_marks[1:] = (base[1:] < begins[:-1]) & touching[:-1]
    parts = touching & (joined[begins] | after_joiner)
    parts |= touching & only_marks & letter[begins] & letter[base]
    begins = begins[~parts]
    ends = np.flatnonzero(word & ~np.append(word[1:], False)) + 1
    ends = ends[np.searchsorted(ends, begins, side="right")]
    ends[:-1] = np.minimum(ends[:-1], begins[1:])
    drawn = np.append(0, np.cumsum((kinds & SEEN) > 0))
    found = np.stack([begins, ends], axis=1)
    seen: NDArray[np.int64] = found[drawn[ends] > drawn[begins]]
    return seen


def _pre_tokenized(tokens: PlacedTokens) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tells of each character whether a word has it, and whether one begins with it."""
    size = len(tokens.kinds)
    placed = np.flatnonzero(tokens.stops > tokens.starts)
    inside = np.zeros(size, dtype=np.bool_)
    cut = np.zeros(size, dtype=np.bool_)
    if not len(placed):
        return inside, cut
    numbers = np.cumsum(tokens.begins)[placed]
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    starts = tokens.starts[placed][first]
    stops = np.maximum.reduceat(tokens.stops[placed], first)
    depth = np.bincount(starts, minlength=size + 1) - np.bincount(stops, minlength=size + 1)
    inside = np.cumsum(depth)[:-1] > 0
    # Words that share a character, which stands for several, are one.
    apart = np.append(True, starts[1:] >= np.maximum.accumulate(stops)[:-1])
    cut[starts[apart]] = True
    inside[tokens.prompted] = False
    return inside, cut


def parts_of(text: str, places: NDArray[np.int64]) -> pa.StringArray:
    """Cuts parts out of a text.

    Args:
        text: Any text.
        places: The characters at which they begin and end, in their order, none of them in two
            parts, shape (parts, 2).
    """
    codes = codes_of(text)
    # Bytes of UTF-8 before each character.
    widths = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    before = np.append(0, np.cumsum(widths))
    # Parts and what is between them, turn by turn.
    ends = np.append(before[places.reshape(-1)], before[-1]).astype(np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(text.encode())]
    turns = pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers)
    return turns.take(pa.array(np.arange(0, 2 * len(places), 2))).cast(pa.string())


class WordPattern:
    r"""A regular expression whose matches are the words of a text.

    Read as the ``regex`` module reads it: as ``re`` does, but marks are of words (``\w``) and
    classes such as ``\p{Lu}`` are known. What it matches that has no character is left out.

    Args:
        pattern: The regular expression.

    Raises:
        ConfigError: It is none.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = regex.compile(pattern)
        except (regex.error, RecursionError, OverflowError) as error:
            raise ConfigError(
                f"word_pattern: {pattern!r} is no regular expression ({error})"
            ) from error

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yields the characters at which the words of a text begin and end, in their order.

        Args:
            text: Any text.

        Raises:
            ConfigError: It takes far too long, as patterns do that try all ways to part a text.
        """
        patience = _PATIENCE + len(text) / _CHARACTERS_A_SECOND
        until = time.monotonic() + patience
        try:
            for match in self._pattern.finditer(text, timeout=patience):
                if match.end() > match.start():
                    yield match.span()
                if time.monotonic() > until:
                    raise TimeoutError
        except TimeoutError:
            raise ConfigError(
                f"word_pattern: {self._pattern.pattern!r} takes more than {patience:.0f} seconds "
                f"for one text, which begins {text[:40]!r}; give one that repeats nothing that "
                "itself repeats, as (a+)+ does"
            ) from None


class GivenWords:
    """The words of which occurrences are wanted.

    A word given in lower case occurs in any case: ``bat`` in "Bat" and "BAT". One with a capital
    occurs as it is written: ``Polish`` not in "polish". Composed and decomposed letters are equal.

    Args:
        words: At least one, none of them empty.
    """

    def __init__(self, words: Iterable[str]) -> None:
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._any = f"(?:{'|'.join(map(_alternatives, longest_first))})"
        self._whole = regex.compile(self._any, regex.VERSION1)
        # By itself between what is of no word: a tokenizer may leave marks at a word.
        self._within = regex.compile(rf"(?<!\w){self._any}(?!\w)", regex.VERSION1)

    def is_one(self, word: str) -> bool:
        """Tells whether a word is one of them."""
        return self._whole.fullmatch(word) is not None

    def within(self, word: str) -> list[tuple[int, int]]:
        """Returns the characters at which they stand by themselves in a word: bat in "(bat),"."""
        return [match.span() for match in self._within.finditer(word)]


def _alternatives(word: str) -> str:
    forms = {word, *(unicodedata.normalize(form, word) for form in ("NFC", "NFD"))}
    either = "|".join(map(regex.escape, sorted(forms)))
    return f"(?i:{either})" if word == word.lower() else f"(?:{either})"
