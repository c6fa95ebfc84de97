"""Documents to windows of tokens, with an overlap."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedkit.tokens.chunk_spans import Spans, distinct, filled, trimmed, whole
from embedkit.tokens.text_tokens import count_tokens, is_long, text_slices, token_pieces


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
            windows.extend(self._halved(text, start, end) if check else filled(text, start, end))
            following = self._at_character(starts, max(stop - self._overlap, first), first)
            first = following if following > first else stop
            done = stop
        return distinct(windows) or [whole(text)]

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
            chunk = text[slice(*trimmed(text, int(starts[first]), int(starts[stop])))]
            surplus = count_tokens(self._tokenizer, [chunk])[0] - self._tokens
            if surplus <= 0:
                return stop
            shorter = self._at_character(starts, max(stop - surplus, first + 1), first)
            if shorter >= stop or starts[shorter] <= starts[first]:
                return stop
            stop = shorter

    def _halved(self, text: str, start: int, end: int) -> Spans:
        """Cuts a token at its characters that takes more tokens by itself than in its place."""
        spans = filled(text, start, end)
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
