"""WordPiece tokens by the package nanotoken, where it is installed and gives the library's ids.

It is some ten times faster than the tokenizers library and knows this one kind of tokenizer. A
token id must not depend on what is installed, so it is used for what the tests prove equal alone,
and only after it gave the library's own ids for the tokenizer at hand.
"""

import json
import logging
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module, metadata
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

PROVEN_VERSION = "0.1.0"
"""The release of nanotoken whose ids the tests hold against the library's."""

LONGEST = 1 << 20
"""Characters of a text; a longer one goes in pieces through the library, in bounded memory."""

# Words remembered by each thread, in some 10 MB: ten times as many are no faster.
_REMEMBERED = 1 << 16
_VOCABULARY_PROBES = 8192
_AT_ONCE = 64
# Ideographs, syllables and letters without case are alike to a tokenizer.
_UNPROBED = frozenset(["Cn", "Co", "Cs", "Lo"])
_log = logging.getLogger(__name__)


class WordPieceEncoder:
    """A tokenizer of nanotoken; any threads may share it, and each call keeps to its own.

    Args:
        fast: The ``nanotoken.Tokenizer``.
    """

    def __init__(self, fast: Any) -> None:
        self._fast = fast

    def encode(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Tokenizes texts, without special tokens and truncation.

        Args:
            texts: Any texts.

        Returns:
            The ids of all texts one after the other, int32, shape (tokens,), and the ends of the
            texts' ids among them, int64, shape (texts + 1,), beginning with 0.
        """
        # Its own threads would be those of the library a second time, beside embedkit's workers.
        rows = self._fast.encode_batch(texts, add_special_tokens=False, parallel=False)
        return rows.ids.view(np.int32), rows.offsets


def wordpiece_encoder(tokenizer: Tokenizer) -> WordPieceEncoder | None:
    """Returns a faster encoder that gives the same ids as a tokenizer, or None.

    Args:
        tokenizer: The tokenizer, without padding and truncation.
    """
    if not isinstance(tokenizer.model, WordPiece) or tokenizer.encode_special_tokens:
        return None
    if not _is_installed():
        return None
    state = json.loads(tokenizer.to_str())
    if not _is_proven(state):
        return None
    # What comes after the model is not asked of it, so that it need not know its kinds.
    state |= {"truncation": None, "padding": None, "post_processor": None, "decoder": None}
    return _checked(json.dumps(state, ensure_ascii=False))


def _is_installed() -> bool:
    try:
        version = metadata.version("nanotoken")
    except metadata.PackageNotFoundError:
        return False
    if version != PROVEN_VERSION:
        _warn_once(
            f"nanotoken {version} is installed and not used, as its ids were compared in release "
            f"{PROVEN_VERSION} only; install that"
        )
    return version == PROVEN_VERSION


def _is_proven(state: dict[str, Any]) -> bool:
    """Tells whether a tokenizer is of a kind whose ids were compared over all of Unicode."""
    normalizer = state["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    return (
        state["model"]["continuing_subword_prefix"] == "##"
        and [step.get("type") for step in steps]
        in (["BertNormalizer"], ["Lowercase", "BertNormalizer"])
        and (state["pre_tokenizer"] or {}).get("type") == "BertPreTokenizer"
    )


@lru_cache(maxsize=4)
def _checked(state: str) -> WordPieceEncoder | None:
    """Loads a tokenizer by both, and returns the faster one if they agree on the probes."""
    nanotoken = import_module("nanotoken")
    nanotoken.set_cache_entries(_REMEMBERED)
    try:
        encoder = WordPieceEncoder(nanotoken.Tokenizer.from_json(state))
    except ValueError as error:
        _log.info("nanotoken does not take this tokenizer: %s", error)
        return None
    library = Tokenizer.from_str(state)
    probes = list(_probes(library, json.loads(state)["model"]["max_input_chars_per_word"]))
    ids, ends = encoder.encode(probes)
    rows = library.encode_batch_fast(probes, add_special_tokens=False)
    for text, row, start, end in zip(probes, rows, ends[:-1], ends[1:], strict=True):
        if row.ids != ids[start:end].tolist():
            _warn_once(
                f"nanotoken {PROVEN_VERSION} is not used, as it gives other ids than tokenizers "
                f"{metadata.version('tokenizers')} for {text[:40]!a}"
            )
            return None
    return encoder


def _probes(library: Tokenizer, longest_word: int) -> Iterator[str]:
    """Yields texts of all kinds of characters, of the vocabulary, and of long words."""
    yield from _joined([f"a{char}b" for char in _characters()])
    vocabulary = sorted(library.get_vocab())
    yield from _joined(vocabulary[:: -(-len(vocabulary) // _VOCABULARY_PROBES)])
    for token in library.get_added_tokens_decoder().values():
        yield f"a{token.content}b {token.content}{token.content} {token.content.upper()}c"
    for letter in ("a", "\u00e9", "\u0130", "\u0905", "\U0001f642"):
        for length in (longest_word - 1, longest_word, longest_word + 1):
            yield letter * length


def _joined(words: list[str]) -> Iterator[str]:
    for first in range(0, len(words), _AT_ONCE):
        yield " ".join(words[first : first + _AT_ONCE])


@lru_cache(maxsize=1)
def _characters() -> list[str]:
    chars = map(chr, chain(range(0x20000), range(0xE0000, 0xE0200)))
    return [char for char in chars if unicodedata.category(char) not in _UNPROBED]


@lru_cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)
