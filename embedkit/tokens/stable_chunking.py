"""Chunks whose borders recover behind an edit: by sentences or paragraphs, within the limit."""

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
from tokenizers import Tokenizer

from embedkit.tokens.borders import border_ranks, chosen_borders
from embedkit.tokens.chunk_spans import Spans, filled, shifted, whole
from embedkit.tokens.text_tokens import count_tokens
from embedkit.tokens.text_units import PARAGRAPHS, SENTENCES, Ends, UnitEnds
from embedkit.tokens.token_chunking import TokenChunker


class StableChunker:
    """Chunks that end where sentences or paragraphs end, at places that depend on the text nearby.

    An edit changes the chunks around it, and those behind are the same again, whereas chunks
    that are filled one after the other change to the text's end. So chunks have between half and
    all of the limit where they could be filled, wherever sentences allow it. What is too long for
    one chunk is cut into smaller units: paragraphs into sentences, these into lines, words, and
    pieces of words; a unit that fits is never cut. Each unit's tokens are counted by itself.

    Args:
        tokenizer: Counts tokens.
        tokens: Most tokens of a chunk.
        overlap: Most tokens that a chunk shares with the one before it, fewer than ``tokens``.
        by_sentence: Whether chunks end with any sentence rather than with a paragraph.
    """

    def __init__(self, tokenizer: Tokenizer, tokens: int, overlap: int, by_sentence: bool) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._overlap = overlap
        self._windows = TokenChunker(tokenizer, tokens - overlap, 0)
        self._units = SENTENCES if by_sentence else PARAGRAPHS

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns the chunks of each text."""
        found = [[whole(text)] for text in texts]
        for number, length in enumerate(count_tokens(self._tokenizer, texts)):
            if length > self._tokens:
                text = texts[number]
                spans = self._fitting(text, self._tokens - self._overlap)
                found[number] = self._overlapping(text, spans) or [whole(text)]
        return found

    def _fitting(self, text: str, limit: int) -> Spans:
        """Cuts a text, and again what has more tokens as it stands than its units have together."""
        cut = self._cut(text, limit, self._units)
        spans = [span for start, end in cut for span in filled(text, start, end)]
        counts = count_tokens(self._tokenizer, (text[start:end] for start, end in spans))
        most = self._tokens - self._overlap
        fitting: Spans = []
        for (start, end), count in zip(spans, counts, strict=True):
            if count == 0 and fitting:
                # Marks that the tokenizer drops, which would have no vector of their own.
                fitting[-1] = (fitting[-1][0], end)
            elif count <= most or end - start == 1:
                fitting.append((start, end))
            elif limit > 1:
                fitting += shifted(self._fitting(text[start:end], limit * 3 // 4), start)
            else:
                fitting += shifted(self._windows.spans([text[start:end]])[0], start)
        if len(fitting) > 1 and counts[0] == 0:
            fitting[:2] = [(fitting[0][0], fitting[1][1])]
        return fitting

    def _cut(self, text: str, limit: int, units: tuple[UnitEnds, ...]) -> Iterator[tuple[int, int]]:
        """Cuts a text into stretches of units with at most so many tokens together."""
        ends = units[0](text)
        if len(ends) == 1 and len(units) > 1:
            yield from self._cut(text, limit, units[1:])
            return
        starts = np.append(0, ends)
        places = np.append(0, np.cumsum(self._counts(text, ends)))
        for first, last in pairwise(chosen_borders(places, border_ranks(text, ends[:-1]), limit)):
            start, end = starts.item(first), starts.item(last)
            if places[last] - places[first] > limit and len(units) > 1:
                yield from shifted(self._cut(text[start:end], limit, units[1:]), start)
            else:
                yield start, end

    def _counts(self, text: str, ends: Ends) -> list[int]:
        parts = (text[start:end] for start, end in pairwise((0, *ends.tolist())))
        return count_tokens(self._tokenizer, parts)

    def _overlapping(self, text: str, spans: Spans) -> Spans:
        """Lets each chunk begin with the last units of the one before it."""
        if not self._overlap:
            return spans
        shared = (self._shared_from(text, *span) for span in spans[:-1])
        wide = [spans[0]]
        wide += [(start, end) for start, (_, end) in zip(shared, spans[1:], strict=True)]
        wide = [filled(text, *span)[0] for span in wide]
        counts = count_tokens(self._tokenizer, (text[start:end] for start, end in wide))
        return [
            span if count > self._tokens else wider
            for span, wider, count in zip(spans, wide, counts, strict=True)
        ]

    def _shared_from(self, text: str, start: int, end: int) -> int:
        """Returns where the units begin that a chunk shares with the next, or where it ends."""
        for unit_ends in self._units:
            ends = unit_ends(text[start:end])
            if len(ends) == 1:
                continue
            counts = self._counts(text[start:end], ends)[:0:-1]
            shared = sum(total <= self._overlap for total in accumulate(counts))
            if shared:
                return start + ends.item(-1 - shared)
            start += ends.item(-2)
        return end
