"""The tokens of texts, each with the characters that it stands for.

Offsets of the tokenizers library are characters of the text that it was given, but not all of them
are what a reader would say: a mark that a tokenizer puts before a text borrows the text's first
character, the space before a word is of the word's token or not by a setting of the tokenizer, and
of characters that a normalizer joins only the first is counted.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from embedkit.tokens.characters import JOINED, WHITE, codes_of, kinds_of
from embedkit.tokens.framing import Frame
from embedkit.tokens.text_tokens import CONTEXT, encoded_pieces, is_long, text_slices
from embedkit.tokens.word_cache import WordCache

SPACE_MARKS = "\u2581\u0120"
"""What stands for a space in vocabularies: of SentencePiece and of byte-level ones."""

_BETWEEN = "\n"
_UNENDED = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class PlacedTokens:
    """The tokens of some texts, and the characters that they stand for.

    Places are counted in ``text``, which has all texts one after the other.

    Attributes:
        text: The texts, each with the prompt before it and a line end behind it; of a long text
            the part that matters to what the model sees.
        zeros: Where the first character behind the prompt is, or would be, int64, shape (texts,).
        prompt: Characters of the prompt.
        ids: Ids of the tokens of all texts, int32, shape (tokens,).
        ends: The ends of the texts' ids among them, int64, shape (texts + 1,), from 0.
        counts: Tokens of each text, those that are left out of ``ids`` counted, shape (texts,).
        starts: Place of each token's first character, int64, shape (tokens,).
        stops: Place behind its last one; its start where it stands for none.
        begins: Whether a word of the tokenizer's own pre-tokenizer begins with it, shape (tokens,).
        kinds: What each character of ``text`` is, see ``characters``.
    """

    text: str
    zeros: NDArray[np.int64]
    prompt: int
    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    begins: NDArray[np.bool_]
    kinds: NDArray[np.uint8]

    @property
    def firsts(self) -> NDArray[np.int64]:
        """The place in ``text`` at which each text begins behind its prompt, shape (texts,)."""
        return np.maximum(self.zeros, 0)

    @property
    def prompted(self) -> NDArray[np.bool_]:
        """Whether each character of ``text`` is of a prompt."""
        if not self.prompt:
            return np.zeros(len(self.text), dtype=np.bool_)
        turns = np.zeros(len(self.text) + 1, dtype=np.int64)
        turns[np.maximum(self.zeros - self.prompt, 0)] += 1
        turns[self.firsts] -= 1
        prompted: NDArray[np.bool_] = np.cumsum(turns)[:-1] > 0
        return prompted

    @property
    def rows(self) -> NDArray[np.int64]:
        """The text that each token is of, shape (tokens,)."""
        return np.repeat(np.arange(len(self.zeros)), np.diff(self.ends))


def place_tokens(
    tokenizer: Tokenizer,
    texts: list[str],
    prompt: str,
    frame: Frame,
    marks: NDArray[np.bool_],
    words: bool,
    cache: WordCache | None = None,
) -> Iterator[PlacedTokens]:
    """Tokenizes texts, some at a time, and finds the characters of each token.

    Args:
        tokenizer: Without padding, truncation, and a post-processor that changes offsets.
        texts: Any texts.
        prompt: Put before each of them.
        frame: What the model sees of a text.
        marks: For each id whether the token is nothing but marks for spaces.
        words: Whether it is asked where the tokenizer's own words begin.
        cache: The tokens of words that were met before, if the tokenizer allows it.
    """
    for some in text_slices(prompt + text for text in texts):
        if is_long(some[0]):
            tokens = _of_pieces(tokenizer, some[0], len(prompt), frame, words)
        else:
            tokens = _of_slice(tokenizer, some, len(prompt), words, cache)
        yield _mended(tokens, marks)


def _of_slice(
    tokenizer: Tokenizer,
    texts: list[str],
    prompt: int,
    words: bool,
    cache: WordCache | None,
) -> PlacedTokens:
    """Tokenizes texts whole; their characters are those that the library tells."""
    sizes = np.fromiter(map(len, texts), np.int64, len(texts)) + len(_BETWEEN)
    places = np.cumsum(sizes) - sizes
    text = _BETWEEN.join(texts) + _BETWEEN
    if found := cache and cache.place(texts):
        ids, ends, offsets, begins = found
        counts = np.diff(ends)
    else:
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        counts = np.fromiter(map(len, encodings), np.int64, len(texts))
        ids, offsets, begins = _arrays(encodings, counts, words)
        offsets += np.repeat(places, counts)[:, np.newaxis]
        ends = np.append(0, np.cumsum(counts))
    return _placed(text, places + prompt, prompt, ids, ends, counts, offsets, begins)


def _of_pieces(
    tokenizer: Tokenizer, text: str, prompt: int, frame: Frame, words: bool
) -> PlacedTokens:
    """Does the same for one text in pieces, and keeps those with tokens that the model sees.

    More is kept on the side that is cut, as a word may begin in one piece and end in the next;
    of a word longer than a piece the rest may be missing.
    """
    pieces: deque[_Piece] = deque()
    count = kept = 0
    enough = False
    for encoding, begin, (start, end) in encoded_pieces(tokenizer, text):
        ids, offsets, begins = _arrays([encoding], np.array([len(encoding)]), words)
        offsets += begin
        own = (offsets[:, 0] >= start) & (offsets[:, 0] < end)
        count += int(own.sum())
        if enough or not own.any():
            continue
        if own[-1] and end <= len(text) and offsets[-1, 1] - offsets[-1, 0] >= CONTEXT:
            # The text around the piece ends within it.
            offsets[-1, 1] = _UNENDED
        pieces.append((ids[own], offsets[own], begins[own]))
        enough = kept >= frame.room and not frame.truncate_left
        kept += len(pieces[-1][0])
        while frame.truncate_left and _rest(pieces, kept) >= frame.room:
            kept -= len(pieces.popleft()[0])
    ids, offsets, begins = _joined(pieces)
    following = np.append(offsets[1:, 0], len(text))
    offsets[:, 1] = np.where(offsets[:, 1] == _UNENDED, following, offsets[:, 1])
    low, high = (int(offsets.min()), int(offsets.max())) if len(offsets) else (0, 0)
    # Marks may follow of which the tokenizer makes no token.
    window = text[low : high + CONTEXT] + _BETWEEN
    ends, counts = np.array([0, len(ids)]), np.array([count])
    zeros = np.array([prompt - low])
    return _placed(window, zeros, prompt, ids, ends, counts, offsets - low, begins)


def _placed(
    text: str,
    zeros: NDArray[np.int64],
    prompt: int,
    ids: NDArray[np.int32],
    ends: NDArray[np.int64],
    counts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    begins: NDArray[np.bool_],
) -> PlacedTokens:
    starts, stops = offsets[:, 0], offsets[:, 1]
    kinds = kinds_of(text)
    return PlacedTokens(text, zeros, prompt, ids, ends, counts, starts, stops, begins, kinds)


_Piece = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]
"""Ids, offsets, and where words begin."""


def _rest(pieces: deque[_Piece], kept: int) -> int:
    """Returns how many of the tokens that are kept are not in the first two pieces."""
    return kept - len(pieces[0][0]) - len(pieces[1][0]) if len(pieces) > 2 else -1


def _joined(pieces: Iterable[_Piece]) -> _Piece:
    empty = (np.empty(0, np.int32), np.empty((0, 2), np.int64), np.empty(0, np.bool_))
    ids, offsets, begins = zip(empty, *pieces, strict=True)
    return np.concatenate(ids), np.concatenate(offsets), np.concatenate(begins)


def _arrays(encodings: list[Encoding], counts: NDArray[np.int64], words: bool) -> _Piece:
    """Returns the ids of some encodings, their offsets, and where words begin."""
    size = int(counts.sum())
    # One list of all, not one for each text.
    ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), np.int32, size)
    pairs = chain.from_iterable(one.offsets for one in encodings)
    offsets = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * size).reshape(size, 2)
    begins = np.zeros(size, dtype=np.bool_)
    if words and size:
        numbers = chain.from_iterable(one.word_ids for one in encodings)
        of_words = np.fromiter((-1 if one is None else one for one in numbers), np.int64, size)
        begins[1:] = of_words[1:] != of_words[:-1]
        firsts = np.cumsum(counts) - counts
        begins[firsts[counts > 0]] = True
    return ids, offsets, begins


def _mended(tokens: PlacedTokens, marks: NDArray[np.bool_]) -> PlacedTokens:
    """Returns tokens with the characters that they stand for, in the place of what is told."""
    kinds, starts, stops = tokens.kinds, tokens.starts, tokens.stops
    size = len(kinds)
    white = (kinds & WHITE).astype(np.bool_)
    # Nobody wrote these, so they borrow the first character of what they were put before.
    codes = codes_of(tokens.text)
    written = white | np.isin(codes, [ord(mark) for mark in SPACE_MARKS])
    put = marks[tokens.ids] & ~written[np.minimum(starts, size - 1)]
    put &= np.append(starts[1:], size) == starts
    stops = np.where(put, starts, stops)
    # The white space around a token is not of it, unless it is nothing else.
    places = np.arange(size)
    following = np.append(np.minimum.accumulate(np.where(white, size, places)[::-1])[::-1], size)
    before = np.append(0, np.maximum.accumulate(np.where(white, 0, places + 1)))
    first, last = following[starts], before[stops]
    inked = (first < last) & ~put
    starts, stops = np.where(inked, first, starts), np.where(inked, last, stops)
    # Some normalizers change the order of characters.
    placed = np.flatnonzero(stops > starts)
    starts[placed] = np.minimum.accumulate(starts[placed][::-1])[::-1]
    stops[placed] = np.maximum.accumulate(stops[placed])
    # What belongs to the character before it and has no token of its own.
    depth = np.bincount(starts[placed], minlength=size + 1)
    depth -= np.bincount(stops[placed], minlength=size + 1)
    loose = (kinds & JOINED).astype(np.bool_) & (np.cumsum(depth)[:-1] == 0)
    behind = np.append(np.minimum.accumulate(np.where(loose, size, places)[::-1])[::-1], size)
    stops[inked] = behind[stops[inked]]
    # A token without characters stands between those that have some, or within one that has
    # several tokens.
    absent = stops <= starts
    earlier = np.maximum.accumulate(np.where(absent, 0, starts))
    later = np.minimum.accumulate(np.where(absent, size, starts)[::-1])[::-1]
    starts = np.where(absent, np.clip(starts, earlier, later), starts)
    ended = np.maximum.accumulate(np.where(absent, 0, stops))
    stops = np.where(absent, np.maximum(starts, ended), stops)
    return replace(tokens, starts=starts, stops=stops)
