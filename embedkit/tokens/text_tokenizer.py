"""Texts to token ids, exactly as sentence-transformers feeds them to a model."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedkit.errors import ConfigError
from embedkit.lazy import lazy_property
from embedkit.tokens.characters import is_seen
from embedkit.tokens.framing import Frame
from embedkit.tokens.pair_rules import PairRules
from embedkit.tokens.span_rules import SpanRules
from embedkit.tokens.spans import PlacedSpans, SpanFinder
from embedkit.tokens.text_tokens import blank_ids, is_long, text_slices, token_pieces
from embedkit.tokens.word_cache import WordCache, tokenizes_words

_PROBES = ("a", "the", "0", ".", "A b")


@dataclass(frozen=True)
class TokenizerSpec:
    """What a process needs to load a model's tokenizer, and what is known of it without.

    Attributes:
        directory: Directory that holds the tokenizer's files.
        max_tokens: Tokens of a text that the model sees, special tokens and prompt included.
        prompt: Text put before every document.
        lower_case: Whether text is lower-cased before the tokenizer's own normalization.
        prompts: Names and texts of the prompts that the model knows.
        max_content_tokens: Tokens left for the text beside special ones and the prompt; None where
            the tokenizer was not asked.
        spans: Which spans of a text get vectors of their own; None where the whole text gets one.
        pairs: How pairs of a query and a text become rows; None where rows are single texts.
        bare: Whether tokenizer.json is taken as it stands, without special tokens, and unknown text
            is counted: for static vectors.
        drops_unknown: Whether unknown text has no part in a vector, so that a text of nothing else
            has none.
    """

    directory: str
    max_tokens: int
    prompt: str = ""
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    max_content_tokens: int | None = None
    spans: SpanRules | None = None
    pairs: PairRules | None = None
    bare: bool = False
    drops_unknown: bool = False


class TextTokenizer:
    """A fast tokenizer with the model's prompt and maximum length; any threads may share it.

    Attributes:
        tokenizer: The tokenizer itself, without padding and truncation.
        spec: What it was made from.
        max_tokens: Tokens of a text that the model sees.
        max_content_tokens: Tokens left for the text beside special tokens and the prompt.
        prompt: Text put before every document.
        pad_id: Id that fills up the shorter rows of a batch.
        prompt_length: Tokens at the start of a row that belong to the prompt, leading special
            tokens included; 0 without a prompt.
        spans: Finds the words or tokens that get vectors of their own; None where texts do.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        spec: TokenizerSpec,
        pad_id: int = 0,
        special_ids: frozenset[int] = frozenset(),
        truncate_left: bool = False,
        unknown_id: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.spec = spec
        self.max_tokens = spec.max_tokens
        self.prompt = spec.prompt
        self.pad_id = pad_id
        prefix, suffix = _special_ids(tokenizer, spec.directory)
        self._special = len(prefix) + len(suffix)
        room = spec.max_tokens - self._special
        self._frame = Frame(tuple(prefix), tuple(suffix), room, truncate_left)
        prompt_tokens = len(tokenizer.encode(spec.prompt, add_special_tokens=False).ids)
        self.max_content_tokens = room - prompt_tokens
        if self.max_content_tokens < 1:
            raise ConfigError(
                f"{spec.directory}: max_tokens is {spec.max_tokens}, but {self._special} special "
                f"tokens and {prompt_tokens} of the prompt leave no room for text; give more "
                "max_tokens"
            )
        self.prompt_length = _prompt_length(tokenizer, spec.prompt, special_ids)
        # Some tokenizers know no line ends.
        blank = blank_ids(tokenizer) - {unknown_id}
        self._blank = np.array(sorted(blank), dtype=np.int32)
        prompt_ids = tokenizer.encode(spec.prompt, add_special_tokens=False).ids
        self._prompt = np.array(prompt_ids, dtype=np.int32)
        self._unknown = np.array([] if unknown_id is None else [unknown_id], dtype=np.int32)
        self.spans = self._finder(spec.spans) if spec.spans else None
        self._words = WordCache(tokenizer) if tokenizes_words(tokenizer) else None

    def encode(
        self, texts: Iterable[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """Tokenizes texts, with the prompt before each of them.

        Args:
            texts: Any texts; some are taken at a time.

        Returns:
            The ids of all texts one after the other, int32, shape (tokens,), each text cut as the
            tokenizer's own truncation cuts it; the ends of the texts' ids among them, int32, shape
            (texts + 1,), beginning with 0; tokens per text before the cut, int32, shape (texts,).
        """
        counts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        flat: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
        for ids, ends, of_texts in self._contents(texts):
            counts.append(of_texts)
            flat.append(self._frame.rows(ids, ends))
        n_tokens = (np.concatenate(counts) + self._special).astype(np.int32)
        return np.concatenate(flat), _ends_of(n_tokens, self.max_tokens), n_tokens

    @property
    def truncate_left(self) -> bool:
        """Whether what is too long loses its beginning, and not its end."""
        return self._frame.truncate_left

    def contents(
        self, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Tokenizes texts, with the prompt before each of them and without special tokens.

        Args:
            texts: Any texts.

        Returns:
            The ids of all texts one after the other, int32, shape (tokens,), each text cut to what
            the model sees of it alone; the ends of the texts' ids among them, int32, shape
            (texts + 1,), beginning with 0; tokens per text before the cut, shape (texts,).
        """
        counts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        flat: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
        for ids, ends, of_texts in self._contents(texts):
            counts.append(of_texts)
            flat.append(self._frame.seen(ids, ends))
        total = np.concatenate(counts)
        return np.concatenate(flat), _ends_of(total, self._frame.room), total

    def silent_contents(
        self, texts: list[str], ids: NDArray[np.int32], offsets: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Finds the texts that say nothing to the model.

        Args:
            texts: The texts.
            ids: Their ids, as ``contents`` returned them.
            offsets: Where they end, likewise.

        Returns:
            Whether each has no token but those of white space, or for text that the model does not
            know and nobody sees, shape (texts,).
        """
        found = np.zeros(len(texts), dtype=np.bool_)
        for silent in (self._blank, np.append(self._blank, self._unknown)):
            for row in np.flatnonzero(_count_of(silent, ids, offsets) == np.diff(offsets)):
                found[row] |= silent is self._blank or not is_seen(texts[row])
        return found

    def encode_with_spans(
        self, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], PlacedSpans]:
        """Tokenizes texts, with the prompt before each of them, and finds their words or tokens.

        Args:
            texts: Any texts.

        Returns:
            What ``encode`` returns, and the spans of each text, as the spec asks for them.

        Raises:
            ConfigError: The pattern of words takes far too long for a text.
        """
        if self.spans is None:
            raise ValueError("the tokenizer was made without rules for spans")
        return self._encode_with(self.spans, texts)

    def encode_with_tokens(
        self, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], PlacedSpans]:
        """Tokenizes texts and finds the characters of all tokens, special ones left out.

        Args:
            texts: Any texts.

        Returns:
            What ``encode`` returns, and a span for each token that is of the text itself.
        """
        return self._encode_with(self._token_finder, texts)

    @lazy_property
    def _token_finder(self) -> SpanFinder:
        return self._finder(SpanRules("token"))

    def _finder(self, rules: SpanRules) -> SpanFinder:
        return SpanFinder(self.tokenizer, rules, self._frame, self.spec.prompt, self.spec.directory)

    def _encode_with(
        self, finder: SpanFinder, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], PlacedSpans]:
        counts: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        flat: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
        parts: list[PlacedSpans] = []
        for tokens, spans in finder.find(texts):
            counts.append(tokens.counts)
            flat.append(self._frame.rows(tokens.ids, tokens.ends))
            parts.append(spans)
        n_tokens = (np.concatenate(counts) + self._special).astype(np.int32)
        offsets = _ends_of(n_tokens, self.max_tokens)
        return np.concatenate(flat), offsets, n_tokens, PlacedSpans.joined(parts)

    def blank_rows(self, ids: NDArray[np.int32], offsets: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Finds the rows that are to the model what a text of white space is.

        Args:
            ids: The ids of all rows, as ``encode`` returned them.
            offsets: Where they end, likewise.

        Returns:
            Whether each row has no token but special ones, those of white space and the prompt,
            shape (rows,).
        """
        return self._rows_of(self._blank, ids, offsets)

    def count_unknown(
        self, ids: NDArray[np.int32], offsets: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Counts the tokens of each row that stand for unknown text, int32, shape (rows,).

        Args:
            ids: The ids of all rows, as ``encode`` returned them.
            offsets: Where they end, likewise.
        """
        return _count_of(self._unknown, ids, offsets).astype(np.int32)

    def unknown_rows(self, ids: NDArray[np.int32], offsets: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Finds blank rows and those that have no other token than the one for unknown text.

        Args:
            ids: The ids of all rows, as ``encode`` returned them.
            offsets: Where they end, likewise.

        Returns:
            Whether each row is one of them, shape (rows,).
        """
        return self._rows_of(np.append(self._blank, self._unknown), ids, offsets)

    def _rows_of(
        self, silent: NDArray[np.int32], ids: NDArray[np.int32], offsets: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Finds the rows that hold, beside the prompt, only tokens that say nothing."""
        prompt = self._prompt[~np.isin(self._prompt, silent)]
        says = np.diff(offsets) - _count_of(silent, ids, offsets)
        found = np.zeros(len(offsets) - 1, dtype=np.bool_)
        for row in np.flatnonzero(says <= self._special + len(prompt)):
            end = offsets[row + 1] - len(self._frame.suffix)
            content = ids[offsets[row] + len(self._frame.prefix) : end]
            said = content[~np.isin(content, silent)]
            found[row] = not len(said) or np.array_equal(said, prompt)
        return found

    def count(self, texts: list[str]) -> list[int]:
        """Counts each text's tokens before truncation, special tokens and prompt included."""
        counts = (of_texts for _, _, of_texts in self._contents(texts))
        return [count + self._special for some in counts for count in some.tolist()]

    def _contents(
        self, texts: Iterable[str]
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]]:
        """Yields slices of texts: their ids, the ends of each text's among them, and all counts.

        Without special tokens, which cost as much again to insert. An Encoding takes some 200
        bytes per token, so only the ids of a slice may outlive it.
        """
        if self.prompt:
            texts = (self.prompt + text for text in texts)
        for some in text_slices(texts):
            if is_long(some[0]):
                kept, count = self._long_content(some[0])
                yield np.array(kept, dtype=np.int32), np.array([0, len(kept)]), np.array([count])
                continue
            # One text repeats few words, and what splits it may import pandas, 0.3 s of a search.
            words = self._words if len(some) > 1 else None
            ids, ends = (words and words.encode(some)) or self._encode_whole(some)
            yield ids, ends, np.diff(ends)

    def _encode_whole(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        # One list of all ids: a list for each text would be looked through by every collection of
        # garbage that they bring about.
        ids: list[int] = []
        ends = np.zeros(len(texts) + 1, dtype=np.int64)
        for place, row in enumerate(
            self.tokenizer.encode_batch_fast(texts, add_special_tokens=False), 1
        ):
            ids += row.ids
            ends[place] = len(ids)
        return np.fromiter(ids, np.int32, len(ids)), ends

    def _long_content(self, text: str) -> tuple[list[int], int]:
        kept: list[int] = []
        count = 0
        for ids, _ in token_pieces(self.tokenizer, text):
            count += len(ids)
            if self._frame.truncate_left or len(kept) < self._frame.room:
                kept = self._frame.cut([*kept, *ids.tolist()])
        return kept, count


def _count_of(
    some: NDArray[np.int32], ids: NDArray[np.int32], offsets: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Counts the tokens of each row that are among some ids, shape (rows,)."""
    # Of a whole block: a count at every token would take more memory than all of its texts, and
    # so would a table of ids that are far apart.
    places = np.flatnonzero(np.isin(ids, some, kind="sort"))
    return np.diff(np.searchsorted(places, offsets))


def _ends_of(counts: NDArray[np.integer], most: int) -> NDArray[np.int32]:
    """Returns where texts of so many tokens end, each cut to the most, beginning with 0."""
    ends = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(np.minimum(counts, most), out=ends[1:])
    return ends


def _special_ids(tokenizer: Tokenizer, directory: str) -> tuple[list[int], list[int]]:
    """Returns the ids that the tokenizer puts before and behind every text."""
    if tokenizer.post_processor is None:
        return [], []
    count = tokenizer.num_special_tokens_to_add(False)
    for probe in _PROBES:
        whole = tokenizer.encode(probe)
        content = [n for n, sequence in enumerate(whole.sequence_ids) if sequence is not None]
        bare = tokenizer.encode(probe, add_special_tokens=False).ids
        if content and len(bare) + count == len(whole.ids):
            first, end = content[0], content[0] + len(bare)
            if whole.ids[first:end] == bare:
                return whole.ids[:first], whole.ids[end:]
    raise ConfigError(
        f"{directory}: cannot tell where the tokenizer puts its {count} special tokens; "
        "its post-processor must keep the text in one piece"
    )


def _prompt_length(tokenizer: Tokenizer, prompt: str, special_ids: frozenset[int]) -> int:
    # As sentence-transformers counts: the prompt alone, without one special token at its end.
    ids = tokenizer.encode(prompt).ids if prompt else []
    return len(ids) - (1 if ids and ids[-1] in special_ids else 0)
