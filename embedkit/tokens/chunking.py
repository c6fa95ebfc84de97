"""Documents to chunks: by tokens with overlap, or by sentences or paragraphs up to a limit.

Spans count Unicode code points, so ``text[start:end]`` is exactly the chunk's text. Chunks lose
the white space at their ends and nothing else: without an overlap they hold every other character
of the text once.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from embedkit.config import RecordConfig
from embedkit.errors import ConfigError
from embedkit.tokens.text_tokens import count_tokens, is_long, text_slices, token_pieces

Spans = list[tuple[int, int]]

_LINE_ENDS = re.compile(r"[\r\n]")
_WINDOW = 1 << 16
"""Characters that are split at a time, as the time that a split takes grows with the square."""

# Inside such a run the splitter goes character by character, and looks at all of it each time.
_ENDS = r"\s!?\u3002\uff01\uff1f\uff61"
_UNBROKEN = re.compile(rf"(?:^|(?<=[{_ENDS}]))[^{_ENDS}]{{1024,}}")


def make_chunker(
    config: RecordConfig, tokenizer: Tokenizer, max_content_tokens: int
) -> "TokenChunker | TextChunker | None":
    """Makes the chunker that a configuration asks for.

    Args:
        config: The kind of chunks, their size and their overlap.
        tokenizer: Counts tokens; without truncation and padding.
        max_content_tokens: Tokens of a text that the model sees, beside special tokens and prompt.

    Returns:
        The chunker, or None where documents stay whole.

    Raises:
        ConfigError: Chunks would be longer than the model sees, or overlap by all they have.
    """
    if config.chunk == "none":
        return None
    tokens = chunk_size(config, max_content_tokens)
    if config.chunk == "tokens":
        return TokenChunker(tokenizer, tokens, config.chunk_overlap)
    by_sentence = config.chunk == "sentences"
    return TextChunker(tokenizer, tokens, config.chunk_overlap, by_sentence)


def chunk_size(config: RecordConfig, max_content_tokens: int) -> int:
    """Returns the most tokens of a chunk.

    Args:
        config: The size of chunks and their overlap.
        max_content_tokens: Tokens of a text that the model sees, beside special tokens and prompt.

    Raises:
        ConfigError: Chunks would be longer than the model sees, or overlap by all they have.
    """
    tokens = config.chunk_tokens or max_content_tokens
    if tokens > max_content_tokens:
        raise ConfigError(
            f"chunk_tokens {tokens}: the model sees {max_content_tokens} tokens of a text beside "
            "special tokens and prompt; give at most that"
        )
    if config.chunk_overlap >= tokens:
        raise ConfigError(
            f"chunk_overlap {config.chunk_overlap}: a chunk has {tokens} tokens; overlap by fewer"
        )
    return tokens


class TokenChunker:
    """Windows of tokens. A window ends at a word's end where that costs it less than half.

    A window that would have more tokens when it is tokenized by itself is made shorter. Only a
    single character that takes more tokens than the limit stays longer than it.

    Args:
        tokenizer: Counts tokens.
        tokens: Most tokens of a chunk.
        overlap: Tokens that a chunk shares with the one before it, fewer than ``tokens``.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: int, overlap: int) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._overlap = overlap

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the windows of each text."""
        starts = token_starts(self._tokenizer, texts)
        found = [self._windows(text, of_text) for text, of_text in zip(texts, starts, strict=True)]
        cut = [number for number, of_text in enumerate(starts) if len(of_text) > self._tokens + 1]
        chunks = (texts[number][start:end] for number in cut for start, end in found[number])
        counts = iter(count_tokens(self._tokenizer, chunks))
        for number in cut:
            if max([next(counts) for _ in found[number]]) > self._tokens:
                found[number] = self._windows(texts[number], starts[number], check=True)
        return found

    def _windows(self, text: str, starts: NDArray[np.int32], check: bool = False) -> Spans:
        """Cuts a text at its tokens' starts, int32, shape (tokens + 1,)."""
        windows: Spans = []
        first, done, last = 0, 0, len(starts) - 1
        while done < last:
            stop = self._stop(text, starts, first, min(first + self._tokens, last))
            if check:
                stop = self._shrunk(text, starts, first, stop)
            if stop <= done:
                # The overlap leaves no room for anything new.
                first = done
                continue
            start, end = int(starts[first]), int(starts[stop])
            windows.extend(self._halved(text, start, end) if check else _filled(text, start, end))
            following = self._at_character(starts, max(stop - self._overlap, first), first)
            first = following if following > first else stop
            done = stop
        return _distinct(windows) or [_whole(text)]

    def _stop(self, text: str, starts: NDArray[np.int32], first: int, stop: int) -> int:
        stop = self._at_character(starts, stop, first)
        while starts[stop] == starts[first]:
            # The character takes more tokens than the limit; it cannot be parted.
            stop += 1
        if stop == len(starts) - 1:
            return stop
        for earlier in range(stop, max((first + stop) // 2, first + self._overlap), -1):
            place = int(starts[earlier])
            if place > starts[first] and (text[place].isspace() or text[place - 1].isspace()):
                return self._at_character(starts, earlier, first)
        return stop

    def _shrunk(self, text: str, starts: NDArray[np.int32], first: int, stop: int) -> int:
        while True:
            chunk = text[slice(*_trimmed(text, int(starts[first]), int(starts[stop])))]
            surplus = count_tokens(self._tokenizer, [chunk])[0] - self._tokens
            if surplus <= 0:
                return stop
            shorter = self._at_character(starts, max(stop - surplus, first + 1), first)
            if shorter >= stop or starts[shorter] <= starts[first]:
                return stop
            stop = shorter

    def _halved(self, text: str, start: int, end: int) -> Spans:
        """Cuts a token at its characters that takes more tokens by itself than in its place."""
        spans = _filled(text, start, end)
        if end - start == 1 or all(
            count_tokens(self._tokenizer, [text[a:b]])[0] <= self._tokens for a, b in spans
        ):
            return spans
        middle = (start + end) // 2
        return self._halved(text, start, middle) + self._halved(text, middle, end)

    @staticmethod
    def _at_character(starts: NDArray[np.int32], place: int, first: int) -> int:
        """Goes back to the first token of the character that a token is part of."""
        return max(int(np.searchsorted(starts, starts[place])), first)


class TextChunker:
    """Chunks that end where sentences or paragraphs end, as far as the limit allows.

    By paragraphs, a chunk prefers to end with a paragraph and then with a sentence; short
    paragraphs share one. By sentences, line ends do not count and sentences fill each chunk.

    Args:
        tokenizer: Counts tokens.
        tokens: Most tokens of a chunk.
        overlap: Most tokens that a chunk shares with the one before it.
        by_sentence: Whether line ends are passed over.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: int, overlap: int, by_sentence: bool) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._by_sentence = by_sentence
        self._splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, tokens, overlap)
        self._fallback = TokenChunker(tokenizer, tokens, overlap)

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the chunks of each text."""
        found = [[_whole(text)] for text in texts]
        lengths = count_tokens(self._tokenizer, texts)
        for number, length in enumerate(lengths):
            if length > self._tokens:
                text = texts[number]
                # The splitter knows fewer white space characters than Python.
                places = (_filled(text, start, end) for start, end in self._split(text))
                spans = [span for place in places for span in place]
                found[number] = self._fitting(text, spans) or [_whole(text)]
        return found

    def _split(self, text: str) -> Iterator[tuple[int, int]]:
        split = _LINE_ENDS.sub(" ", text) if self._by_sentence else text
        done = 0
        for run in _UNBROKEN.finditer(split):
            yield from self._windows(split, done, run.start())
            yield from _shifted(self._fallback.spans([run.group()])[0], run.start())
            done = run.end()
        yield from self._windows(split, done, len(split))

    def _windows(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Splits a stretch of a text as if it were split at once, but a window at a time."""
        size = _WINDOW
        while start < end:
            stop = min(start + size, end)
            chunks = self._splitter.chunk_indices(text[start:stop])
            spans = [(start + place, start + place + len(chunk)) for place, chunk in chunks]
            if stop == end:
                yield from spans
                return
            # Chunks near the window's end might be others if more of the text were seen.
            sure = sum(last <= stop - size // 4 for _, last in spans)
            yield from spans[:sure]
            if sure < len(spans) and spans[sure][0] > start:
                start, size = spans[sure][0], _WINDOW
            else:
                size *= 2

    def _fitting(self, text: str, spans: Spans) -> Spans:
        """Cuts chunks again that have too many tokens as they stand in the text."""
        counts = count_tokens(self._tokenizer, (text[start:end] for start, end in spans))
        fitting: Spans = []
        for (start, end), count in zip(spans, counts, strict=True):
            if count == 0 and fitting:
                # Marks that the tokenizer drops, which would have no vector of their own.
                fitting[-1] = (fitting[-1][0], end)
            elif count <= self._tokens:
                fitting.append((start, end))
            else:
                fitting.extend(_shifted(self._fallback.spans([text[start:end]])[0], start))
        if len(fitting) > 1 and counts[0] == 0:
            fitting[:2] = [(fitting[0][0], fitting[1][1])]
        return _distinct(fitting)


def token_starts(tokenizer: Tokenizer, texts: list[str]) -> list[NDArray[np.int32]]:
    """Returns where the tokens of each text begin, ascending, and behind them the text's length.

    Args:
        tokenizer: Without truncation and padding.
        texts: Any texts.
    """
    found: list[list[NDArray[np.int32]]] = []
    for some in text_slices(texts):
        if is_long(some[0]):
            found.append([starts for _, starts in token_pieces(tokenizer, some[0])])
            continue
        for encoding in tokenizer.encode_batch(some, add_special_tokens=False):
            starts = (start for start, _ in encoding.offsets)
            found.append([np.fromiter(starts, np.int32, len(encoding))])
    return [_complete(parts, len(text)) for parts, text in zip(found, texts, strict=True)]


def _complete(parts: list[NDArray[np.int32]], length: int) -> NDArray[np.int32]:
    """Joins the starts of tokens, lets the first begin with the text, and adds the end.

    What stands between two tokens, such as a mark that the tokenizer drops, belongs to the first.
    Some tokenizers give places out of order; a token then begins where the ones before it do.
    """
    whole = np.concatenate([*parts, np.array([length], dtype=np.int32)])
    whole[0] = 0
    np.maximum.accumulate(whole, out=whole)
    return whole


def _shifted(spans: Spans, start: int) -> Spans:
    return [(start + first, start + last) for first, last in spans]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    chunk = text[start:end]
    return end - len(chunk.lstrip()), start + len(chunk.rstrip())


def _distinct(spans: Spans) -> Spans:
    """Leaves out spans that lie within a neighbour, as an overlap may make them."""
    kept: Spans = []
    for start, end in spans:
        while kept and start <= kept[-1][0] and kept[-1][1] <= end:
            kept.pop()
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept


def _filled(text: str, start: int, end: int) -> Spans:
    """Returns a span without the white space at its ends, or none where that is all."""
    start, end = _trimmed(text, start, end)
    return [(start, end)] if start < end else []


def _whole(text: str) -> tuple[int, int]:
    start, end = _trimmed(text, 0, len(text))
    return (start, end) if start < end else (0, len(text))
