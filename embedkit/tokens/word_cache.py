"""Tokenizes each distinct word once, as most words of a text were met before.

What BERT's tokenizers and those of whole words do with the text between two spaces depends on
nothing else, so Arrow takes texts apart and finds the distinct words, and the tokenizers library
sees those alone that are new.
"""

import json
from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece

from embedkit.tokens.whole_words import is_of_words

# Some 20 MB.
_MOST_WORDS = 1 << 16
_LONGEST_WORD = 64
_PATIENCE = 1 << 21
"""Characters in a row whose words are looked up in vain, from which on a sixteenth of them is."""

_LOOKED_UP = 16
# To every such tokenizer these are white space, as other characters are to some.
_WHITE = ("\t", "\n", "\r")


class WordCache:
    """The ids of the words that a tokenizer met; any threads may share it.

    Args:
        tokenizer: One that ``tokenizes_words`` knows, without padding and truncation.
        placed: Whether it is also known where in a word its tokens are.
        most_new: Share of new words from which on whole texts are tokenized instead, as a word by
            itself costs the library several times what it costs it within a text.
    """

    def __init__(self, tokenizer: Tokenizer, most_new: float = 0.2, placed: bool = False) -> None:
        self._tokenizer = tokenizer
        self._placed = placed
        self._most_new = most_new
        self._known: dict[str, bytes] = {}
        # Of characters. Threads may overwrite each other's: then more is looked up, or less.
        self._in_vain = self._to_pass = 0

    def encode(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]] | None:
        """Tokenizes texts, without special tokens.

        Args:
            texts: Any texts.

        Returns:
            The ids of all texts one after the other, int32, shape (tokens,), and the ends of the
            texts' ids among them, int64, shape (texts + 1,), beginning with 0. None if too many
            words are new, so that whole texts are tokenized in less time, or were so long enough.
        """
        found = self._look_up(texts)
        return found and (found[0][:, 0], found[1])

    def place(
        self, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]] | None:
        """Tokenizes texts, without special tokens, and tells where tokens are.

        Args:
            texts: Any texts.

        Returns:
            What ``encode`` returns; the characters at which each token begins and ends, counted
            through all texts with one character between two of them, int64, shape (tokens, 2); and
            whether a word of the pre-tokenizer begins with it, shape (tokens,). None likewise.
        """
        found = self._look_up(texts)
        if found is None:
            return None
        table, ends, starts = found
        return table[:, 0], ends, table[:, 1:3] + starts[:, np.newaxis], table[:, 3] > 0

    def _look_up(
        self, texts: list[str]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]] | None:
        """Returns what is known of each token, texts' ends, and characters where words begin."""
        size = sum(map(len, texts))
        if self._to_pass > 0:
            self._to_pass -= size
            return None
        spaced = pa.array(texts, pa.string())
        for white in _WHITE:
            spaced = pc.replace_substring(spaced, white, " ")
        split = pc.split_pattern(spaced, " ")
        words = split.flatten().dictionary_encode()
        places = words.indices.to_numpy()
        distinct = words.dictionary.to_pylist()
        known = self._known
        found: list[Any] = list(map(known.get, distinct))
        new = [place for place, ids in enumerate(found) if ids is None]
        few = len(new) <= self._most_new * len(places)
        if not few:
            often = np.bincount(places, minlength=len(distinct)) > 1
            new = [place for place in new if often[place]]
        self._learn(known, distinct, new, found)
        if not few:
            self._in_vain += size
            if self._in_vain > _PATIENCE:
                self._to_pass = (_LOOKED_UP - 1) * size
            return None
        self._in_vain = 0
        width = 4 if self._placed else 1
        table = np.frombuffer(b"".join(found), dtype=np.int32).reshape(-1, width)
        lengths = np.fromiter(map(len, found), np.int64, len(found)) // (table.itemsize * width)
        counts = lengths[places]
        ends = np.append(0, np.cumsum(counts))
        first = (np.cumsum(lengths) - lengths)[places]
        tokens = table[np.repeat(first - ends[:-1], counts) + np.arange(ends[-1])]
        starts = np.empty(0, dtype=np.int64)
        if self._placed:
            sizes = pc.utf8_length(words.dictionary).to_numpy().astype(np.int64)[places] + 1
            starts = np.repeat(np.cumsum(sizes) - sizes, counts)
        return tokens, ends[split.offsets.to_numpy()], starts

    def _learn(
        self, known: dict[str, bytes], distinct: list[str], new: list[int], found: list[Any]
    ) -> None:
        """Tokenizes new words, and keeps their ids but for those of long ones."""
        words = [distinct[place] for place in new]
        encode = self._tokenizer.encode_batch if self._placed else self._tokenizer.encode_batch_fast
        rows = encode(words, add_special_tokens=False)
        for place, word, row in zip(new, words, rows, strict=True):
            values = chain.from_iterable(_placed(row)) if self._placed else row.ids
            found[place] = array("i", values).tobytes()
            if len(word) <= _LONGEST_WORD:
                known[word] = found[place]
        if len(known) > _MOST_WORDS:
            # Another thread may be reading the old one.
            self._known = {}


def _placed(encoding: Encoding) -> Iterator[tuple[int, int, int, bool]]:
    """Yields of each token its id, its characters, and whether a word begins with it."""
    before: int | None = -1
    tokens = zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True)
    for number, (start, end), word in tokens:
        yield number, start, end, word != before
        before = word


def tokenizes_words(tokenizer: Tokenizer) -> bool:
    """Tells whether the text between two spaces has the same ids wherever it stands.

    Args:
        tokenizer: Any tokenizer.
    """
    if is_of_words(tokenizer):
        return True
    if not isinstance(tokenizer.model, WordPiece):
        return False
    normalizer, pre_tokenizer = _state(tokenizer.normalizer), _state(tokenizer.pre_tokenizer)
    steps = normalizer.get("normalizers", [normalizer])
    names = [step.get("type") for step in steps]
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        names in (["BertNormalizer"], ["Lowercase", "BertNormalizer"])
        and pre_tokenizer.get("type") == "BertPreTokenizer"
        and not any(token.normalized or _has_space(token.content) for token in added)
    )


def _has_space(text: str) -> bool:
    return any(char.isspace() for char in text)


def _state(step: Any) -> dict[str, Any]:
    state: dict[str, Any] = {} if step is None else json.loads(step.__getstate__())
    return state
