"""A tokenizer whose tokens are the words of a list, and which drops all others.

The mean of a text's vectors is then one over the words that have a vector, to whichever library
reads the directory: a tokenizer of whole words as libraries know them would put a vector for
unknown words into it. So this one is byte-pair encoding without a pair: a word that is in the
vocabulary as a whole is a token, and of others no piece is in the vocabulary.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

MARK = "\u2581"
"""Stands before every word of the vocabulary, so that no character alone is a token."""

UNKNOWN = "[UNK]"
"""Token for a word without a vector, where such words are to be counted; it has the last id."""

_INNER = "\x00"
"""Stands before every character of an unknown word but the first, so that none of them is known."""


def word_tokenizer(words: Sequence[str], lower_case: bool) -> Tokenizer:
    """Makes a tokenizer of words between white space and punctuation.

    Args:
        words: The words, each once, none of them empty; a word's id is its place.
        lower_case: Whether texts are lower-cased first.
    """
    vocabulary = {MARK + word: place for place, word in enumerate(words)}
    vocabulary[UNKNOWN] = len(words)
    model = models.BPE(
        vocab=vocabulary, merges=[], continuing_subword_prefix=_INNER, ignore_merges=True
    )
    tokenizer = Tokenizer(model)
    if lower_case:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = _between_words()
    return tokenizer


def is_of_words(tokenizer: Tokenizer) -> bool:
    """Tells whether ``word_tokenizer`` made a tokenizer."""
    model, steps, normalizer = tokenizer.model, tokenizer.pre_tokenizer, tokenizer.normalizer
    return (
        isinstance(model, models.BPE)
        and model.continuing_subword_prefix == _INNER
        and bool(model.ignore_merges)
        and steps is not None
        and steps.__getstate__() == _between_words().__getstate__()
        and (normalizer is None or isinstance(normalizer, normalizers.Lowercase))
        and not tokenizer.get_added_tokens_decoder()
    )


def words_of(file: Path) -> tuple[list[str], bool] | None:
    """Reads the words of a tokenizer of whole words, in a fraction of the time it takes to load.

    Args:
        file: The file ``tokenizer.json``.

    Returns:
        The words in the order of their ids, and whether texts are lower-cased; None where it is
        another tokenizer, or none.
    """
    try:
        held = orjson.loads(file.read_bytes())
        vocabulary = held["model"].pop("vocab")
        tokenizer = Tokenizer.from_str(
            json.dumps({**held, "model": {**held["model"], "vocab": {}}})
        )
    # The library raises a bare Exception for whatever its parser does not like.
    except Exception:  # noqa: BLE001 - whoever loads it whole says what is wrong
        return None
    if not is_of_words(tokenizer) or list(vocabulary.values()) != list(range(len(vocabulary))):
        return None
    *words, last = vocabulary
    if last != UNKNOWN:
        return None
    return [word.removeprefix(MARK) for word in words], lower_cases(tokenizer)


def count_unknown(tokenizer: Tokenizer) -> None:
    """Makes a tokenizer of whole words give each unknown one a token, before its first use."""
    tokenizer.model.unk_token = UNKNOWN
    tokenizer.model.fuse_unk = True


def lower_cases(tokenizer: Tokenizer) -> bool:
    """Tells whether a tokenizer makes every letter of a text lower-case."""
    return tokenizer.normalizer is not None and tokenizer.normalizer.normalize_str("A") == "a"


def is_lower_case(words: Iterable[str]) -> bool:
    """Tells whether no word has an upper-case letter, so that texts should have none either."""
    return all(word == word.lower() for word in words)


def _between_words() -> pre_tokenizers.PreTokenizer:
    marked = pre_tokenizers.Metaspace(MARK, prepend_scheme="always", split=False)
    return pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), marked])
