"""Documents to chunks: by tokens with overlap, or by sentences or paragraphs up to a limit.

Spans count Unicode code points, so ``text[start:end]`` is exactly the chunk's text. Chunks lose
the white space at their ends and nothing else: without an overlap they hold every other character
of the text once.
"""

import re
from collections.abc import Iterator

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from embedkit.config import RecordConfig
from embedkit.errors import ConfigError
from embedkit.tokens.chunk_spans import Spans, distinct, filled, shifted, whole
from embedkit.tokens.stable_chunking import StableChunker
from embedkit.tokens.text_tokens import count_tokens
from embedkit.tokens.token_chunking import TokenChunker

_LINE_ENDS = re.compile(r"[\r\n]")
_WINDOW = 1 << 16
"""Characters that are split at a time, as the time that a split takes grows with the square."""

# Inside such a run the splitter goes character by character, and looks at all of it each time.
_ENDS = r"\s!?\u3002\uff01\uff1f\uff61"
_UNBROKEN = re.compile(rf"(?:^|(?<=[{_ENDS}]))[^{_ENDS}]{{1024,}}")


def make_chunker(
    config: RecordConfig, tokenizer: Tokenizer, max_content_tokens: int
) -> "TokenChunker | TextChunker | StableChunker | None":
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
    make = StableChunker if config.chunk.startswith("stable-") else TextChunker
    by_sentence = config.chunk.endswith("sentences")
    return make(tokenizer, tokens, config.chunk_overlap, by_sentence)


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
        found = [[whole(text)] for text in texts]
        lengths = count_tokens(self._tokenizer, texts)
        for number, length in enumerate(lengths):
            if length > self._tokens:
                text = texts[number]
                # The splitter knows fewer white space characters than Python.
                places = (filled(text, start, end) for start, end in self._split(text))
                spans = [span for place in places for span in place]
                found[number] = self._fitting(text, spans) or [whole(text)]
        return found

    def _split(self, text: str) -> Iterator[tuple[int, int]]:
        split = _LINE_ENDS.sub(" ", text) if self._by_sentence else text
        done = 0
        for run in _UNBROKEN.finditer(split):
            yield from self._windows(split, done, run.start())
            yield from shifted(self._fallback.spans([run.group()])[0], run.start())
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
                fitting.extend(shifted(self._fallback.spans([text[start:end]])[0], start))
        if len(fitting) > 1 and counts[0] == 0:
            fitting[:2] = [(fitting[0][0], fitting[1][1])]
        return distinct(fitting)
