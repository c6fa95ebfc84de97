"""Late chunking: each chunk is read in a window of its document, with the text around it.

Günther et al., "Late Chunking: Contextual Chunk Embeddings Using Long-Context Embedding Models"
(2024): a document is encoded once, and the tokens of each chunk are pooled from it. What is longer
than the model's maximum is encoded in windows that overlap, so that every chunk has text on both
sides where the document has.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedkit.tokens.borders import border_ranks, chosen_borders
from embedkit.tokens.chunk_spans import Spans
from embedkit.tokens.token_chunking import token_starts

_CONTEXT = 8
"""An eighth of a window, at most, is text on either side of its chunks, for a third more work."""

_SPARE = 64
"""One token of so many is spared, as a window by itself may have others at its ends."""

_LONGEST_WORD = 16
"""Tokens; some scripts put no space between words."""


class LateChunker:
    """Cuts texts by another chunker, and finds the window that each chunk is read in.

    Args:
        cut: Returns the chunks of each text; none has more tokens than a window.
        tokenizer: Counts tokens; without truncation and padding.
        tokens: Most tokens of a window.
        stable: Whether windows, too, are to recover behind an edit, for which they are shorter.
    """

    def __init__(
        self,
        cut: Callable[[list[str]], list[Spans]],
        tokenizer: Tokenizer,
        tokens: int,
        stable: bool = False,
    ) -> None:
        self._cut = cut
        self._find = _stable_windows if stable else _windows
        self._tokenizer = tokenizer
        self._tokens = tokens

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the chunks of each text."""
        return self._cut(texts)

    def windows(self, texts: list[str], spans: list[Spans]) -> list[Spans]:
        """Returns the window of each chunk: the whole text, or a part of one that is too long."""
        starts = token_starts(self._tokenizer, texts)
        return [
            [(0, len(text))] * len(of_text)
            if len(at) - 1 <= self._tokens
            else self._find(text, of_text, at, max(1, self._tokens - self._tokens // _SPARE))
            for text, of_text, at in zip(texts, spans, starts, strict=True)
        ]


def _windows(text: str, spans: Spans, starts: NDArray[np.int32], size: int) -> Spans:
    """Finds the windows of chunks, as many chunks in each as leave it text around them.

    Args:
        text: The text.
        spans: Its chunks, in order.
        starts: Where its tokens begin, ascending, and the text's length.
        size: Most tokens of a window.
    """
    tokens = len(starts) - 1
    places = np.array(spans, dtype=np.int64)
    firsts = np.searchsorted(starts[:-1], places[:, 0], side="right") - 1
    ends = np.searchsorted(starts[:-1], places[:, 1], side="left")
    found: Spans = []
    while (chunk := len(found)) < len(spans):
        first, end = int(firsts[chunk]), int(ends[chunk])
        context = max(0, min(size // _CONTEXT, (size - (end - first)) // 2))
        begin = max(0, first - context)
        stop = begin + size
        if stop >= tokens:
            begin, stop = min(first, max(0, tokens - size)), tokens
            inside = len(spans)
        else:
            inside = max(chunk + 1, int(np.searchsorted(ends, stop - context, side="right")))
        begin = _at_word(text, starts, begin, first)
        stop = _before_word(text, starts, stop, int(ends[inside - 1]))
        found += [(int(starts[begin]), int(starts[stop]))] * (inside - chunk)
    return found


def _stable_windows(text: str, spans: Spans, starts: NDArray[np.int32], size: int) -> Spans:
    """Finds the windows of chunks, with text around them, by the text nearby alone.

    Args:
        text: The text.
        spans: Its chunks, in order.
        starts: Where its tokens begin, ascending, and the text's length.
        size: Most tokens of a window.
    """
    places = np.array(spans, dtype=np.int64)
    firsts = np.searchsorted(starts[:-1], places[:, 0], side="right") - 1
    ends = np.searchsorted(starts[:-1], places[:, 1], side="left")
    sizes = np.append(0, np.cumsum(ends - firsts))
    room = max(1, size - 2 * (size // _CONTEXT))
    found: Spans = []
    for chunk, after in pairwise(chosen_borders(sizes, border_ranks(text, places[1:, 0]), room)):
        first, end = int(firsts[chunk]), int(ends[after - 1])
        context = max(0, min(size // _CONTEXT, (size - (end - first)) // 2))
        begin = _at_word(text, starts, max(0, first - context), first)
        stop = _before_word(text, starts, min(end + context, len(starts) - 1), end)
        found += [(int(starts[begin]), int(starts[stop]))] * (after - chunk)
    return found


def _at_word(text: str, starts: NDArray[np.int32], place: int, last: int) -> int:
    """Returns a token at which a word begins, soon behind a place, or the place itself."""
    near = range(place, min(place + _LONGEST_WORD, last + 1))
    return next((one for one in near if _parts(text, int(starts[one]))), place)


def _before_word(text: str, starts: NDArray[np.int32], place: int, least: int) -> int:
    """Returns a token at which a word begins, little before a place, or the place itself."""
    near = range(place, max(place - _LONGEST_WORD, least - 1), -1)
    return max(next((one for one in near if _parts(text, int(starts[one]))), place), least)


def _parts(text: str, place: int) -> bool:
    """Tells whether a place is at an end of the text, or beside white space."""
    if place in (0, len(text)):
        return True
    return text[place].isspace() or text[place - 1].isspace()
