"""Tokenizers of whole words: what they take for a word, whichever way they are asked."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, pre_tokenizers

from embedkit.tokens.bare import bare_tokenizer
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.tokens.whole_words import is_of_words, word_tokenizer, words_of
from embedkit.tokens.word_cache import tokenizes_words

WORDS = ["the", "king", ",", "'", "don", "t", "日本", "naïve", "▁x", "a b"]
PIECES = [
    *WORDS,
    "The",
    "kings",
    "[UNK]",
    "\x00",
    "\x00king",
    "▁",
    "▁king",
    " ",
    "\n",
    "\u00a0",
    "😀",
    ".",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("words")
    word_tokenizer(WORDS, lower_case=True).save(str(folder / "tokenizer.json"))
    return load_tokenizer(TokenizerSpec(str(folder), 1_000_000, bare=True, drops_unknown=True))


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map("".join), max_size=6))
def test_remembered_words_are_those_of_the_library(
    tokenizer: TextTokenizer, texts: list[str]
) -> None:
    ids, offsets, counts = tokenizer.encode(texts)
    rows = tokenizer.tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [row.ids for row in rows]
    assert counts.tolist() == [len(row.ids) for row in rows]


def test_an_unknown_word_is_one_token_at_its_characters(tokenizer: TextTokenizer) -> None:
    text = "The kings, don't xking 日本\u00a0king"
    found = tokenizer.tokenizer.encode(text, add_special_tokens=False)
    assert [text[start:end] for start, end in found.offsets] == [
        "The", "kings", ",", "don", "'", "t", "xking", "日本", "king",
    ]  # fmt: skip
    unknown = len(WORDS)
    assert [at for at, one in enumerate(found.ids) if one == unknown] == [1, 6]
    ids, offsets, _ = tokenizer.encode([text, "", "kings"])
    assert tokenizer.count_unknown(ids, offsets).tolist() == [2, 0, 1]
    assert tokenizer.unknown_rows(ids, offsets).tolist() == [False, True, True]


def test_long_texts_in_pieces_have_the_same_tokens(tokenizer: TextTokenizer) -> None:
    text = " ".join(np.random.default_rng(1).choice(["the", "kings", "king,", "x" * 999], 9_000))
    ids, _, _ = tokenizer.encode([text])
    assert ids.tolist() == tokenizer.tokenizer.encode(text, add_special_tokens=False).ids


def test_words_are_read_without_their_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    word_tokenizer(WORDS, lower_case=False).save(str(file))
    assert words_of(file) == (WORDS, False)
    file.write_text("{}")
    assert words_of(file) is None
    assert words_of(tmp_path / "none") is None


def test_what_is_not_quite_such_a_tokenizer_is_another(tmp_path: Path) -> None:
    ours = word_tokenizer(WORDS, lower_case=True)
    assert is_of_words(ours)
    assert tokenizes_words(ours)
    ours.pre_tokenizer = pre_tokenizers.Whitespace()
    assert not is_of_words(ours)
    more = word_tokenizer(WORDS, lower_case=True)
    more.add_tokens([AddedToken("the king", normalized=False)])
    assert not is_of_words(more)
    more.save(str(tmp_path / "tokenizer.json"))
    assert not bare_tokenizer(tmp_path / "tokenizer.json").of_words
    assert words_of(tmp_path / "tokenizer.json") is None
