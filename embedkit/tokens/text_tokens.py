"""Tokenizes texts in bounded memory, however long they are.

The tokens of 16 MB would take gigabytes, and some tokenizers take time with the square of a word.
So a long text is tokenized in pieces, each with some of the text around it, so that its tokens
are those of the whole; of them those count that begin in the piece itself.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

PIECE = 1 << 15
"""Characters of a piece; a shorter text is tokenized whole."""

SLICE = 4 * PIECE
"""Characters that are tokenized at a time."""

CONTEXT = 256
"""Characters around a piece that are tokenized with it."""

# Best where a lone space parts two words: no tokenizer joins what stands on its sides.
_SEAMS = (re.compile(r"(?<=\w)\s(?=\w)"), re.compile(r"(?<=\S)\s"))
_WHITE = ("", " ", "  ", "\n", "\t", "\r\n", " \n ")


def token_pieces(
    tokenizer: Tokenizer, text: str
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Tokenizes a text, a piece at a time.

    Args:
        tokenizer: Without truncation and padding.
        text: The text.

    Yields:
        Ids of consecutive tokens, without special ones, and the characters at which they begin,
        both int32, shape (tokens,).
    """
    for encoding, begin, (start, end) in encoded_pieces(tokenizer, text):
        count = len(encoding)
        starts = np.fromiter((at for at, _ in encoding.offsets), np.int32, count) + begin
        own = (starts >= start) & (starts < end)
        yield np.fromiter(encoding.ids, np.int32, count)[own], starts[own]


def encoded_pieces(
    tokenizer: Tokenizer, text: str
) -> Iterator[tuple[Encoding, int, tuple[int, int]]]:
    """Tokenizes a text, a piece at a time, each with some of the text around it.

    Args:
        tokenizer: Without truncation and padding.
        text: The text.

    Yields:
        What was made of a piece and the text around it, without special tokens, the character at
        which that begins, and the characters of the piece itself: tokens that begin in these are
        those of the whole text.
    """
    pieces = _pieces(text)
    together = max(1, SLICE // PIECE)
    for first in range(0, len(pieces), together):
        some = pieces[first : first + together]
        begins = [max(start - CONTEXT, 0) for start, _ in some]
        parts = [text[at : end + CONTEXT] for at, (_, end) in zip(begins, some, strict=True)]
        encodings = tokenizer.encode_batch(parts, add_special_tokens=False)
        yield from zip(encodings, begins, some, strict=True)


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> list[int]:
    """Counts the tokens of texts, without special ones."""
    counts: list[int] = []
    for some in text_slices(texts):
        if is_long(some[0]):
            counts.append(sum(len(ids) for ids, _ in token_pieces(tokenizer, some[0])))
        else:
            counts += map(len, tokenizer.encode_batch_fast(some, add_special_tokens=False))
    return counts


def is_long(text: str) -> bool:
    """Tells whether a text is to be tokenized in pieces."""
    return len(text) > PIECE


def text_slices(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gathers texts into slices to be tokenized at a time; a long text stands alone."""
    some: list[str] = []
    size = 0
    for text in texts:
        if some and (is_long(some[0]) or size + len(text) > SLICE or is_long(text)):
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text)
    if some:
        yield some


def blank_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Returns the ids that white space becomes; a text of no other ids says nothing."""
    encodings = tokenizer.encode_batch_fast(list(_WHITE), add_special_tokens=False)
    return frozenset(one for encoding in encodings for one in encoding.ids)


def _pieces(text: str) -> list[tuple[int, int]]:
    pieces = []
    start = 0
    while len(text) - start > PIECE:
        end = _seam(text, start + PIECE)
        pieces.append((start, end))
        start = end
    return [*pieces, (start, len(text) + 1)]


def _seam(text: str, end: int) -> int:
    """Returns the last good place to cut at before a place, or that place."""
    for seam in _SEAMS:
        found = [match.start() for match in seam.finditer(text, end - PIECE // 16, end)]
        if found:
            return found[-1]
    return end
