"""The words or tokens of texts that get vectors of their own: their characters and tokens."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer, processors

from embedkit.errors import ConfigError
from embedkit.records import SPANS_FIELD, TOKENS_FIELD
from embedkit.tokens.framing import Frame
from embedkit.tokens.placed_tokens import SPACE_MARKS, PlacedTokens, place_tokens
from embedkit.tokens.span_rules import SpanRules
from embedkit.tokens.word_cache import WordCache, tokenizes_words
from embedkit.tokens.words import GivenWords, WordPattern, parts_of, tokenizer_words


@dataclass(frozen=True, slots=True)
class PlacedSpans:
    """Spans of n rows: words, or tokens.

    Attributes:
        char_starts: First character of each in its row's text, int32, shape (spans,).
        char_ends: The character behind its last one.
        token_starts: Place of its first token in the row as the model gets it.
        token_ends: Place behind its last token.
        offsets: Row i has the spans from ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape
            (n + 1,).
    """

    char_starts: NDArray[np.int32]
    char_ends: NDArray[np.int32]
    token_starts: NDArray[np.int32]
    token_ends: NDArray[np.int32]
    offsets: NDArray[np.int32]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The row that each span is of, shape (spans,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def column(self) -> pa.Array:
        """Returns the spans as a column of ``SPANS_FIELD``."""
        fields = list(SPANS_FIELD.type.value_type)
        values = [pa.array(getattr(self, f"{field.name}s")) for field in fields]
        structs = pa.StructArray.from_arrays(values, fields=fields)
        return pa.ListArray.from_arrays(pa.array(self.offsets), structs, type=SPANS_FIELD.type)

    @classmethod
    def joined(cls, parts: list["PlacedSpans"]) -> "PlacedSpans":
        """Joins the spans of consecutive rows."""
        names = ("char_starts", "char_ends", "token_starts", "token_ends")
        nothing = np.empty(0, dtype=np.int32)
        flat = [np.concatenate([nothing, *(getattr(part, one) for part in parts)]) for one in names]
        counts = chain.from_iterable(np.diff(part.offsets).tolist() for part in parts)
        offsets = np.append(0, np.cumsum(list(counts))).astype(np.int32)
        return cls(flat[0], flat[1], flat[2], flat[3], offsets)


class SpanFinder:
    """Finds the words or tokens of texts; any threads may share it.

    A span of a word has all characters of the word, also where the model sees but some of its
    tokens, as a text is too long; a word of which it sees none is left out, as are words of which
    the tokenizer drops all characters. The tokens of a word are those that stand for some of its
    characters. Tokens of the prompt and special ones are of no word.

    Attributes:
        rules: Which spans there are.

    Args:
        tokenizer: Without padding and truncation.
        rules: Which spans there are.
        frame: What the model sees of a text.
        prompt: Text before every other one.
        directory: The tokenizer's, for messages.

    Raises:
        ConfigError: The rules cannot be followed.
    """

    def __init__(
        self, tokenizer: Tokenizer, rules: SpanRules, frame: Frame, prompt: str, directory: str
    ) -> None:
        self._tokenizer = _with_plain_offsets(tokenizer)
        self.rules = rules
        self._frame = frame
        self._prompt = prompt
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        names = [""] * (max(vocabulary.values(), default=-1) + 1)
        for name, number in vocabulary.items():
            names[number] = name
        self._names = pa.array(names, pa.string())
        marks = [bool(name) and not name.strip(SPACE_MARKS + " ") for name in names]
        self._marks = np.array(marks, dtype=np.bool_)
        self._pattern = WordPattern(rules.word_pattern) if rules.word_pattern else None
        self._given = GivenWords(rules.words) if rules.words else None
        self._cache = WordCache(tokenizer, placed=True) if tokenizes_words(tokenizer) else None
        if self._given and not self._pattern:
            self._check_given(directory)

    def find(self, texts: list[str]) -> Iterator[tuple[PlacedTokens, PlacedSpans]]:
        """Tokenizes texts, some at a time, and finds their spans.

        Args:
            texts: Any texts, without the prompt.

        Yields:
            The tokens of some texts, uncut and without special ones, and the spans of these texts.
        """
        yield from self._find(texts, self._prompt, self._frame)

    def names(
        self,
        texts: list[str],
        ids: NDArray[np.int32],
        offsets: NDArray[np.int32],
        spans: PlacedSpans,
    ) -> pa.Array:
        """Returns the words or tokens themselves as a column of ``TOKENS_FIELD``.

        Args:
            texts: The texts of all rows.
            ids: The ids of all rows, as the model gets them.
            offsets: Where they end, beginning with 0.
            spans: The spans of all rows.
        """
        rows = spans.rows
        if self.rules.of == "token":
            of_spans = ids[offsets[rows] + spans.token_starts]
            values = self._names.take(pa.array(of_spans))
        else:
            sizes = np.fromiter(map(len, texts), np.int64, len(texts))
            places = (np.cumsum(sizes) - sizes)[rows]
            found = np.stack([spans.char_starts + places, spans.char_ends + places], axis=1)
            values = parts_of("".join(texts), found)
        return pa.ListArray.from_arrays(pa.array(spans.offsets), values, type=TOKENS_FIELD.type)

    def _find(
        self, texts: list[str], prompt: str, frame: Frame
    ) -> Iterator[tuple[PlacedTokens, PlacedSpans]]:
        of_words = self.rules.of == "word" and self._pattern is None
        done = 0
        for tokens in place_tokens(
            self._tokenizer, texts, prompt, frame, self._marks, of_words, self._cache
        ):
            some = texts[done : done + len(tokens.zeros)]
            done += len(some)
            if self.rules.of == "token":
                yield tokens, self._tokens(tokens, some, frame)
            else:
                yield tokens, _of_words(tokens, self._words(tokens, some), frame)

    def _words(self, tokens: PlacedTokens, texts: list[str]) -> NDArray[np.int64]:
        """Finds words, as places in the text of the tokens, shape (words, 2)."""
        if self._pattern is None:
            words = tokenizer_words(tokens)
        else:
            matches = [self._matches(tokens, row, text) for row, text in enumerate(texts)]
            words = np.array(list(chain.from_iterable(matches)), dtype=np.int64).reshape(-1, 2)
        if self._given is None:
            return words
        distinct = parts_of(tokens.text, words).dictionary_encode()
        found: list[list[tuple[int, int]]] = [
            self._occurrences(word) for word in distinct.dictionary.to_pylist()
        ]
        counts = np.fromiter(map(len, found), np.int64, len(found))
        flat = np.array(list(chain.from_iterable(found)), dtype=np.int64).reshape(-1, 2)
        numbers = distinct.indices.to_numpy()
        of_words = counts[numbers]
        first = np.repeat((np.cumsum(counts) - counts)[numbers], of_words)
        within = np.arange(len(first)) - np.repeat(np.cumsum(of_words) - of_words, of_words)
        occurrences: NDArray[np.int64] = flat[first + within]
        return occurrences + np.repeat(words[:, 0], of_words)[:, np.newaxis]

    def _matches(self, tokens: PlacedTokens, row: int, text: str) -> Iterator[tuple[int, int]]:
        """Yields the matches of the pattern that are among the tokens of a text."""
        if self._pattern is None or tokens.ends[row] == tokens.ends[row + 1]:
            return
        zero = int(tokens.zeros[row])
        low = int(tokens.starts[tokens.ends[row]])
        high = int(tokens.stops[tokens.ends[row + 1] - 1])
        for start, end in self._pattern.find(text):
            if zero + start >= high:
                break
            if zero + end > low:
                yield zero + start, zero + end

    def _occurrences(self, word: str) -> list[tuple[int, int]]:
        if self._given is None or self._pattern is not None:
            return [(0, len(word))] if self._given and self._given.is_one(word) else []
        return self._given.within(word)

    def _tokens(self, tokens: PlacedTokens, texts: list[str], frame: Frame) -> PlacedSpans:
        rows = tokens.rows
        firsts = tokens.firsts[rows]
        starts = np.maximum(tokens.starts, firsts)
        own = np.flatnonzero((tokens.stops > firsts) | (tokens.starts >= firsts))
        places = own - tokens.ends[:-1][rows[own]]
        spans = _Spans(rows[own], starts[own], tokens.stops[own], places, places + 1)
        spans = spans.seen(tokens, frame)
        if self.rules.special_tokens:
            spans = spans.with_special(tokens, texts, frame)
        return spans.placed(tokens)

    def _check_given(self, directory: str) -> None:
        """Refuses words that cannot occur, as the tokenizer parts them."""
        for word in self.rules.words:
            frame = Frame((), (), len(word.encode()) * 64, False)
            for tokens, spans in self._find([word], "", frame):
                if len(word) not in (spans.char_ends - spans.char_starts):
                    parts = [
                        word[a - z : b - z]
                        for z in tokens.zeros
                        for a, b in tokenizer_words(tokens)
                    ]
                    raise ConfigError(
                        f"words: {word!r} is no word to the tokenizer of {directory}, which finds "
                        f"{', '.join(map(repr, parts)) or 'nothing'} in it; give word_pattern as "
                        "well, of which it is a match"
                    )


@dataclass(frozen=True, slots=True)
class _Spans:
    """Spans with their rows, places in the text of all, and places of tokens in their rows."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    token_starts: NDArray[np.int64]
    token_ends: NDArray[np.int64]

    def seen(self, tokens: PlacedTokens, frame: Frame) -> "_Spans":
        """Returns the spans that the model sees tokens of, with their places in its rows."""
        cut = frame.first_seen(tokens.ends)[self.rows]
        first = np.maximum(self.token_starts - cut, 0)
        last = np.minimum(self.token_ends - cut, frame.room)
        seen = first < last
        before = len(frame.prefix)
        return _Spans(
            self.rows[seen],
            self.starts[seen],
            self.ends[seen],
            first[seen] + before,
            last[seen] + before,
        )

    def with_special(self, tokens: PlacedTokens, texts: list[str], frame: Frame) -> "_Spans":
        """Returns them with those of the special tokens around every text."""
        rows = np.arange(len(texts))
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
        content = np.minimum(np.diff(tokens.ends), frame.room)
        parts = [(self.rows, self.starts, self.ends, self.token_starts, self.token_ends)]
        for place in range(frame.special):
            behind = place >= len(frame.prefix)
            at = tokens.zeros + sizes * behind
            token = place + content * behind
            parts.append((rows, at, at, token, token + 1))
        joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        order = np.lexsort((joined[3], joined[0]))
        ordered = [array[order] for array in joined]
        return _Spans(ordered[0], ordered[1], ordered[2], ordered[3], ordered[4])

    def placed(self, tokens: PlacedTokens) -> PlacedSpans:
        """Returns them with the characters of the rows' own texts."""
        zeros = tokens.zeros[self.rows]
        counts = np.bincount(self.rows, minlength=len(tokens.zeros))
        return PlacedSpans(
            (self.starts - zeros).astype(np.int32),
            (self.ends - zeros).astype(np.int32),
            self.token_starts.astype(np.int32),
            self.token_ends.astype(np.int32),
            np.append(0, np.cumsum(counts)).astype(np.int32),
        )


def _of_words(tokens: PlacedTokens, words: NDArray[np.int64], frame: Frame) -> PlacedSpans:
    """Finds the tokens of words: those that stand for some of their characters."""
    placed = np.flatnonzero(tokens.stops > tokens.starts)
    first = np.searchsorted(tokens.stops[placed], words[:, 0], side="right")
    last = np.searchsorted(tokens.starts[placed], words[:, 1], side="left")
    found = first < last
    words, token_starts, token_ends = (
        words[found],
        placed[first[found]],
        placed[last[found] - 1] + 1,
    )
    rows = tokens.rows[token_starts]
    before = tokens.ends[:-1][rows]
    spans = _Spans(rows, words[:, 0], words[:, 1], token_starts - before, token_ends - before)
    return spans.seen(tokens, frame).placed(tokens)


def _with_plain_offsets(tokenizer: Tokenizer) -> Tokenizer:
    """Returns a tokenizer that tells all characters of a token, white space as well.

    Some post-processors trim offsets, but one character too many where there was no space.
    """
    processor = tokenizer.post_processor
    if processor is None or b'"trim_offsets":true' not in processor.__getstate__():
        return tokenizer
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.post_processor = processors.Sequence([])
    plain.encode_special_tokens = tokenizer.encode_special_tokens
    return plain
