"""Other spellings of a word that was not found."""

import difflib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice

_MOST_COMPARED = 5000
"""Comparing two words takes microseconds; a vocabulary may hold millions."""

_MOST_NAMED = 3
_LONGER = 2
_LEAST_LIKE = 0.7
_RARER = 0.02
"""How much more like it a word must be whose place is twice as far behind, as it is rarer."""

_LONGEST = 100


def variants(word: str) -> list[str]:
    """Returns the spellings under which a word is looked up: as it is, then in other letters."""
    composed = unicodedata.normalize("NFC", word)
    every = (word, composed, composed.lower(), composed.capitalize(), composed.upper())
    return list(dict.fromkeys(every))


def near_spellings(word: str, words: Sequence[str]) -> list[str]:
    """Finds words that are spelled much like another, in a time that does not grow with them.

    Args:
        word: The word.
        words: The words that there are, better ones first.

    Returns:
        A few of them, the likeliest first.
    """
    word = word[:_LONGEST].lower()
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(word)
    found = []
    for place, other in islice(_likely(word, words), _MOST_COMPARED):
        matcher.set_seq1(other.lower())
        if matcher.quick_ratio() >= _LEAST_LIKE and (ratio := matcher.ratio()) >= _LEAST_LIKE:
            found.append((_RARER * math.log2(place + 2) - ratio, other))
    return [other for _, other in sorted(found)[:_MOST_NAMED]]


def _likely(word: str, words: Sequence[str]) -> Iterator[tuple[int, str]]:
    shortest, longest = len(word) - _LONGER, len(word) + _LONGER
    start, letters = word[:1], sorted(word)
    for place, other in enumerate(words):
        if shortest <= len(other) <= longest and (
            other[:1].lower() == start or sorted(other) == letters
        ):
            yield place, other
