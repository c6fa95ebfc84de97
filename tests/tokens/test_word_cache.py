"""Ids put together of words against those of whole texts, on real ones and all of Unicode."""

import csv
import json
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA
from texts import FOREIGN, MESSY, paragraphs
from tiny_models import SENTENCES, make_tokenizer
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.tokens.word_cache import WordCache, tokenizes_words

NORMALIZERS = {
    "uncased": normalizers.BertNormalizer(lowercase=True),
    "cased": normalizers.BertNormalizer(lowercase=False),
    "cased, without accents": normalizers.BertNormalizer(lowercase=False, strip_accents=True),
    "lower case with accents": normalizers.BertNormalizer(lowercase=True, strip_accents=False),
    "ideographs in one word": normalizers.BertNormalizer(
        handle_chinese_chars=False, strip_accents=False
    ),
    "controls kept": normalizers.BertNormalizer(clean_text=False),
    "lower case first": normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.BertNormalizer(lowercase=False)]
    ),
}
# What the scripts write between, over and behind letters, and what breaks words in two.
PIECES = (
    "[CLS]", "[PAD]", "[MASK]", "[SEP]", "[UNK]", "[mask]", "[MASK", "word", "Word", "ing", "##ing",
    "tag", " ", "  ", "\t", "\n", "\r", "\x00", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f", "\x85",
    "\xa0", "\xad", "\u200b", "\u200d", "\u2028", "\u2029", "\u3000", "\ufeff", "\ufffd", "\ufdd0",
    "\ufffe", "\ue000", "\U000e0041", "\u00e9", "e\u0301", "A\u030a", "q\u0323\u0307",
    "q\u0307\u0323", "\u0345", "\u0f73", "\u0130", "\u00df", "\u0391\u03a3", "\u03c2", "\ufb01",
    "\u2460", "\u00bd", "\u2026", "\u4e2d", "\u65e5\u672c", "\U00020000", "\uf900",
    "\u1100\u1161\u11a8", "\uac01", "\u0e33", "\u0928\u093f", "\uff76\uff9e", "\uff21",
    "\U0001d400", "\U0001d7d8", "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "x" * 50,
    "y" * 100, "z" * 101, "1234567890", "3.14", "can't", "snake_case", "$^`~|_-#@<>=+", "\u061d",
    "\u09fd",
)  # fmt: skip


@pytest.fixture(scope="module")
def uncased(minilm):
    tokenizer = Tokenizer.from_file(str(Path(minilm, "tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@pytest.fixture(scope="module")
def variants(uncased):
    made = {}
    for name, normalizer in NORMALIZERS.items():
        made[name] = Tokenizer.from_str(uncased.to_str())
        made[name].normalizer = normalizer
    made["added words"] = Tokenizer.from_str(uncased.to_str())
    made["added words"].add_tokens(
        [
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("tag", rstrip=True, normalized=False),
            AddedToken("Word", lstrip=True, normalized=False),
            AddedToken("\u65e5", special=True),
        ]
    )
    return {name: with_encoder(tokenizer) for name, tokenizer in made.items()}


def with_encoder(tokenizer):
    assert tokenizes_words(tokenizer)
    return tokenizer, WordCache(tokenizer, most_new=1.0)


def check_equal(pair, texts):
    tokenizer, cache = pair
    ids, ends = cache.encode(texts)
    assert ids.dtype == np.int32
    rows = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    expected = [row.ids for row in rows]
    assert ends.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    flat = np.fromiter(chain.from_iterable(expected), np.int32, len(ids))
    if not np.array_equal(ids, flat):
        other = int(np.searchsorted(ends, np.flatnonzero(ids != flat)[0], side="right")) - 1
        assert ids[ends[other] : ends[other + 1]].tolist() == expected[other], ascii(texts[other])


def words_of(form, chars):
    """Texts of 64 such words each."""
    words = [form.format(char) for char in chars]
    return [" ".join(words[first : first + 64]) for first in range(0, len(words), 64)]


def characters():
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def is_assigned(char):
    return unicodedata.category(char) not in ("Cn", "Co")


@pytest.mark.soak
def test_all_of_unicode(variants):
    """Of what is not assigned, where one is as another, each sixteenth; the soak test has all."""
    chars = [one for one in characters() if is_assigned(one) or ord(one) % 16 == 13]
    check_equal(variants["uncased"], words_of("{0} so{0}me\t{0}", chars))


@pytest.mark.parametrize(
    "name",
    [
        name if name == "uncased" else pytest.param(name, marks=pytest.mark.soak)
        for name in (*NORMALIZERS, "added words")
    ],
)
def test_what_unicode_has_assigned(name, variants):
    assigned = [one for one in characters() if unicodedata.category(one) not in ("Cn", "Co", "Lo")]
    for form in ("so{0}me", "A{0} {0}b", "B{0} \u0327\u0301{0}\n\u0345{0}"):
        check_equal(variants[name], words_of(form, assigned))


@pytest.mark.soak
@pytest.mark.parametrize("name", [*NORMALIZERS, "added words"])
@pytest.mark.parametrize("form", ["{0} a", "so{0}me {0}\t{0}{0}two\n{0}", "A {0}\u0301 B{0}\u0327"])
def test_each_character_by_itself(form, name, variants):
    check_equal(variants[name], [form.format(char) for char in characters()])


@pytest.mark.soak
@pytest.mark.parametrize("name", [*NORMALIZERS, "added words"])
def test_many_texts_of_pieces(name, variants):
    draw = random.Random(7)
    for _ in range(20):
        lengths = [draw.randrange(1, 24) for _ in range(20_000)]
        check_equal(variants[name], ["".join(draw.choices(PIECES, k=one)) for one in lengths])


def test_pairs_of_pieces(variants):
    texts = ["".join(pair) for pair in product(PIECES, repeat=2)]
    for name in ("uncased", "cased", "added words"):
        check_equal(variants[name], texts)


@settings(max_examples=200, deadline=None)
@given(
    texts=st.lists(
        st.lists(
            st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            max_size=12,
        ).map("".join),
        max_size=4,
    ),
    name=st.sampled_from([*NORMALIZERS, "added words"]),
)
@example(texts=["a" * 99, "a" * 100, "a" * 101, "e\u0301" * 51, "\U0001f642" * 101], name="uncased")
@example(texts=["", " ", "\u4e2d\u6587" * 60, "- " * 200], name="cased")
def test_any_text(texts, name, variants):
    check_equal(variants[name], texts)


@pytest.mark.parametrize("kind", ["wordpiece", "mpnet", "bare"])
def test_small_vocabularies(kind):
    foreign = list(chain.from_iterable(FOREIGN.values()))
    texts = [*SENTENCES, *MESSY, *foreign, *paragraphs()[:100], *PIECES]
    check_equal(with_encoder(make_tokenizer(kind).backend_tokenizer), texts)


def lines_of(path):
    return path.read_text(encoding="utf-8").split("\n")


def sentences_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [sentence for row in csv.reader(file) for sentence in row[:2]]


@pytest.mark.soak
@pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason=NO_PUBLIC_DATA)
@pytest.mark.parametrize("name", ["uncased", pytest.param("cased", marks=pytest.mark.soak)])
def test_public_corpora(name, variants):
    texts = [json.dumps(one) for one in lines_of(PUBLIC_DATA / "cranfield" / "corpus.jsonl")]
    for pattern in ("wikitext2/*.txt", "cranfield/*"):
        for path in PUBLIC_DATA.glob(pattern):
            texts += lines_of(path)
    for pattern in ("stsb/*.csv", "multilingual/*.csv"):
        for path in PUBLIC_DATA.glob(pattern):
            texts += sentences_of(path)
    texts += json.loads((PUBLIC_DATA / "messy" / "blns.json").read_text(encoding="utf-8"))
    assert len(texts) > 30_000
    check_equal(variants[name], texts)


def test_the_tokenizer_of_a_model_uses_it(minilm):
    texts = [*paragraphs()[:50], *SENTENCES * 20, "", "x" * 5000]
    for prompt, side in product(("", "passage: "), ("right", "left")):
        spec = TokenizerSpec(minilm, 24, prompt)
        ours, library = load_tokenizer(spec), load_tokenizer(spec)
        assert isinstance(ours._words, WordCache)
        library._words = None
        ours._truncate_left = library._truncate_left = side == "left"
        for some in (texts, texts[:1], []):
            for got, expected in zip(ours.encode(some), library.encode(some), strict=True):
                assert got.dtype == expected.dtype
                assert np.array_equal(got, expected)
            assert ours.count(some) == library.count(some)
        assert ours._words._known


class Counting:
    """A tokenizer that counts the texts it is given."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.texts = []

    def encode_batch_fast(self, texts, add_special_tokens):
        self.texts += texts
        return self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize("texts", [[], [""], ["", " ", "\n\t "], ["one", "", " one "]])
def test_next_to_nothing(texts, variants):
    check_equal(variants["uncased"], texts)


def test_a_known_word_is_not_tokenized_again(uncased):
    counting = Counting(uncased)
    cache = WordCache(counting)
    texts = ["to be or not to be\tthat is\nthe question"] * 50
    first = cache.encode(texts)
    assert sorted(counting.texts) == ["be", "is", "not", "or", "question", "that", "the", "to"]
    ids, ends = cache.encode([*texts, "to  be, be"])
    assert counting.texts[8:] == ["", "be,"]
    assert ids[: ends[50]].tolist() == first[0].tolist()


def test_where_most_words_are_new_whole_texts_are_tokenized_and_what_is_frequent_is_kept(uncased):
    cache = WordCache(uncased)
    assert cache.encode(["one two three four one", "five six seven eight"]) is None
    assert list(cache._known) == ["one"]


def test_where_words_keep_being_new_few_are_looked_up(uncased, monkeypatch):
    """Such as names that come up twice, which by themselves cost several times as much."""
    monkeypatch.setattr("embedkit.tokens.word_cache._PATIENCE", 3000)
    counting = Counting(uncased)
    cache = WordCache(counting)
    for number in range(1000):
        names = [f"{number}x{place}" for place in range(20)]
        assert cache.encode([" ".join(names * 2)]) is None
    assert 0 < len(counting.texts) < 1000 * 20 / 10
    again = ["the same words as before"] * 20
    looked_up = [number for number in range(400) if cache.encode(again)]
    assert 0 < looked_up[0] < 20
    assert looked_up == list(range(looked_up[0], 400))


def test_words_that_are_new_now_and_then_are_looked_up_all_the_same(uncased, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.word_cache._PATIENCE", 100)
    cache = WordCache(uncased)
    for number in range(50):
        assert cache.encode([f"the {number}x"]) is None
        check_equal((uncased, cache), ["the the"] * 4)


def test_words_are_kept_up_to_a_number_and_a_length(uncased, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.word_cache._MOST_WORDS", 100)
    cache = WordCache(uncased, most_new=1.0)
    for first in range(0, 1000, 90):
        texts = [f"{number} {number}{'x' * 70}" for number in range(first, first + 90)]
        check_equal((uncased, cache), texts)
        assert len(cache._known) <= 100
        assert max(map(len, cache._known), default=0) <= 64


def test_threads_share_words(uncased, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.word_cache._MOST_WORDS", 300)
    cache = WordCache(uncased, most_new=1.0)
    texts = [list(paragraphs()[first : first + 10]) for first in range(0, 200, 10)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda some: check_equal((uncased, cache), some), texts * 3))


def with_parts(tokenizer, **parts):
    other = Tokenizer.from_str(tokenizer.to_str())
    for name, part in parts.items():
        setattr(other, name, part)
    return other


def with_added(tokenizer, *tokens):
    other = with_parts(tokenizer)
    other.add_tokens(list(tokens))
    return other


@pytest.mark.parametrize(
    "change",
    [
        lambda one: with_parts(one, pre_tokenizer=pre_tokenizers.Whitespace()),
        lambda one: with_parts(one, pre_tokenizer=None),
        lambda one: with_parts(one, normalizer=None),
        lambda one: with_parts(one, normalizer=normalizers.NFKC()),
        lambda one: with_parts(
            one, normalizer=normalizers.Sequence([normalizers.BertNormalizer(), normalizers.NFC()])
        ),
        lambda one: with_added(one, AddedToken("New York", normalized=False)),
        lambda one: with_added(one, AddedToken("a\u3000b", normalized=False)),
        lambda one: with_added(one, AddedToken("ing", normalized=True)),
    ],
)
def test_tokenizers_to_which_more_may_matter_than_a_word(change, uncased):
    assert tokenizes_words(uncased)
    assert not tokenizes_words(change(uncased))


@pytest.mark.parametrize("kind", ["unigram", "xlm", "bytes"])
def test_other_models(kind):
    assert not tokenizes_words(make_tokenizer(kind).backend_tokenizer)


def test_special_tokens_as_text(uncased):
    pair = with_encoder(with_parts(uncased, encode_special_tokens=True))
    check_equal(pair, ["a [MASK] b[SEP]", "[CLS][CLS]", *PIECES])
