"""Words and tokens of texts with their characters, against Python's slices and transformers."""

# ruff: noqa: RUF001
import itertools
import json
import re
import unicodedata
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA
from span_tokenizers import KINDS, span_tokenizer
from texts import FOREIGN, MESSY, paragraphs
from tiny_models import SENTENCES
from transformers import AutoTokenizer

from embedkit.config import ModelConfig
from embedkit.errors import ConfigError
from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock
from embedkit.tokens.span_rules import SpanRules, span_rules
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.vectors import spans_of

TOKENS, WORDS = SpanRules("token"), SpanRules("word")
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
PIECES = [
    "the", "bat", " ", "  ", "\t", "\n", "\r\n", "é", "e\u0301", "\u0301", "\u200b", "\u200c",
    "\u200d", "\ufeff", "\x10", "\x00", "\u00ad", "\U0001f469", FAMILY, "❤\ufe0f", "1\ufe0f\u20e3",
    "\U0001f44d\U0001f3fd", "\U0001f1e8\U0001f1ed", "中", "文字", "か\u3099", "ｶﾞ", "हिन्दी", "مرحبا",
    "שָׁלוֹם", "\u1106\u1161\u1109\u1175\u11af", "안녕", "ﬁ", "㍿", "…", "½", "İ", "ß", "¨", "'s",
    "n't", ",", ".", "(", "[MASK]", "[CLS]", "▁", "Ġ", "_", "\u3000", "\u00a0", "\u2028",
    "\u202e", "x" * 20,
    "Z\u0310\u0311\u0312", "กำ", "\U00020000", "\u0dd9\u0dcf", "\u0958", "\ufdfa",
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    made = {}

    def save(kind: str) -> str:
        if kind not in made:
            directory = tmp_path_factory.mktemp("tokenizer")
            span_tokenizer(kind).save_pretrained(directory)
            made[kind] = str(directory)
        return made[kind]

    return save


@pytest.fixture(scope="module")
def load(saved):
    loaded = {}

    def one(kind, rules, max_tokens=10_000, prompt="", **others):
        key = (kind, rules, max_tokens, prompt, *others.items())
        if key not in loaded:
            spec = TokenizerSpec(saved(kind), max_tokens, prompt, spans=rules, **others)
            loaded[key] = load_tokenizer(spec)
        return loaded[key]

    return one


def rows_of(spans):
    """Returns per row its spans as (start, end, first token, place behind the last)."""
    names = ("char_starts", "char_ends", "token_starts", "token_ends")
    columns = [getattr(spans, name).tolist() for name in names]
    flat = list(zip(*columns, strict=True))
    return [flat[a:b] for a, b in itertools.pairwise(spans.offsets.tolist())]


def found_in(tokenizer: TextTokenizer, *texts: str):
    """Returns the words or tokens of each text."""
    rows = rows_of(tokenizer.encode_with_spans(list(texts))[3])
    return [
        [text[start:end] for start, end, _, _ in row] for text, row in zip(texts, rows, strict=True)
    ]


def is_drawn(char):
    return not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf", "Mn", "Zl", "Zp")


def check(load, kind, texts, max_tokens, prompt=""):
    """Checks what holds of every text."""
    plain = load(kind, None, max_tokens, prompt)
    ids, offsets, n_tokens = plain.encode(texts)
    rows = {}
    for rules in (TOKENS, WORDS):
        tokenizer = load(kind, rules, max_tokens, prompt)
        *same, spans = tokenizer.encode_with_spans(texts)
        for ours, theirs in zip(same, (ids, offsets, n_tokens), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        rows[rules] = rows_of(spans)
    for text, count, tokens, words in zip(
        texts, np.diff(offsets).tolist(), rows[TOKENS], rows[WORDS], strict=True
    ):
        check_tokens(text, tokens, count, 0 if kind == "bare" else 1, prompt)
        check_words(text, words, tokens)
        if count < max_tokens:
            check_nothing_is_lost(text, tokens, words, plain.tokenizer)


def check_tokens(text, tokens, count, special, prompt):
    starts, ends = [token[0] for token in tokens], [token[1] for token in tokens]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    places = [first for _, _, first, _ in tokens]
    assert [behind for _, _, _, behind in tokens] == [first + 1 for first in places]
    # All that are not of the prompt, without the special ones on both sides.
    assert places == list(range(count - special - len(places), count - special))
    if not prompt:
        assert len(places) == count - 2 * special
    for start, end in zip(starts, ends, strict=True):
        assert 0 <= start <= end <= len(text)
        part = text[start:end]
        assert part == part.strip() or not part.strip()


def check_words(text, words, tokens):
    last = 0
    for start, end, first, behind in words:
        assert last <= start < end <= len(text)
        last = end
        assert not any(char.isspace() for char in text[start:end])
        overlapping = [at for a, b, at, _ in tokens if a < end and b > start]
        assert (first, behind) == (overlapping[0], overlapping[-1] + 1)
        # No word begins with what belongs to the character before it, if a token has that.
        assert not (
            unicodedata.combining(text[start])
            and any(a < start <= b for a, b, _, _ in tokens)
            and is_drawn(text[start - 1])
        )


def check_nothing_is_lost(text, tokens, words, tokenizer):
    of_tokens = {place for start, end, _, _ in tokens for place in range(start, end)}
    of_words = {place for start, end, _, _ in words for place in range(start, end)}
    for place, char in enumerate(text):
        if place in of_tokens and is_drawn(char):
            assert place in of_words
        if place not in of_tokens and is_drawn(char):
            names = tokenizer.encode(char, add_special_tokens=False).tokens
            # Some see but white space in it, others nothing.
            assert not "".join(names).strip("▁Ġ"), (text, char)


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(
        st.one_of(
            st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=16),
        ),
        min_size=1,
        max_size=4,
    ),
    max_tokens=st.sampled_from([10_000, 9]),
    prompt=st.sampled_from(["", "query: "]),
)
def test_any_text(load, texts, max_tokens, prompt):
    for kind in KINDS:
        check(load, kind, texts, 10_000 if prompt else max_tokens, prompt)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(4)
def test_real_texts_of_many_languages(load, kind):
    foreign = [sentence for language in FOREIGN.values() for sentence in language]
    check(load, kind, [*MESSY, *foreign, *SENTENCES, *PIECES], 10_000)


@pytest.mark.skipif(not PUBLIC_DATA.is_dir(), reason=NO_PUBLIC_DATA)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(4)
def test_naughty_strings(load, kind):
    naughty = json.loads((PUBLIC_DATA / "messy" / "blns.json").read_text(encoding="utf-8"))
    check(load, kind, naughty, 10_000)


@pytest.mark.parametrize("kind", ["wordpiece", "bare", "roberta"])
def test_tokens_are_those_of_transformers(load, saved, kind):
    oracle = AutoTokenizer.from_pretrained(saved(kind))
    texts = [*SENTENCES, *paragraphs()[:60], FAMILY, "cafés naïve, 中文"]
    whole = oracle(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    *_, spans = load(kind, TOKENS).encode_with_spans(texts)
    for text, row, expected in zip(texts, rows_of(spans), whole, strict=True):
        for (start, end, _, _), (first, last) in zip(row, expected, strict=True):
            # Of a token of white space alone theirs has no character.
            assert (start, end) == (first, last) or (first == last and text[start:end].isspace())


GPT2 = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
ORACLES = {
    "wordpiece": lambda text: re.findall(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]", text),
    "roberta": lambda text: [one.strip() for one in GPT2.findall(text) if one.strip()],
    "roberta-prefix": lambda text: [one.strip() for one in GPT2.findall(text) if one.strip()],
    "unigram": str.split,
    "xlm-r": str.split,
    "t5": str.split,
    "llama": str.split,
    "deberta-v3": lambda text: re.findall(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]", text),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_words_are_those_of_the_pre_tokenizer(load, kind):
    texts = [text for text in [*paragraphs()[:80], *SENTENCES] if text.isascii()]
    if kind in ("deberta-v3", "wordpiece"):
        texts = [text.translate({ord(char): " " for char in "$+<=>^`|~"}) for text in texts]
    assert found_in(load(kind, WORDS), *texts) == list(map(ORACLES[kind], texts))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a {FAMILY} b", ["a", FAMILY, "b"]),
        ("cafe\u0301s nai\u0308ve", ["cafe\u0301s", "nai\u0308ve"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("1\ufe0f\u20e3 \U0001f44d\U0001f3fd", ["1\ufe0f\u20e3", "\U0001f44d\U0001f3fd"]),
        ("\u1106\u1161\u1109\u1175\u11af a", ["\u1106\u1161\u1109\u1175\u11af", "a"]),
        ("tab\tx\n\ny\u3000z", ["tab", "x", "y", "z"]),
        ("ﬁne ㍿", ["ﬁne", "㍿"]),
        ("\u00a0İstanbul\u2028ﬂ", ["İstanbul", "ﬂ"]),
        ("", []),
        (" \n\t", []),
    ],
)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "xlm-r"])
def test_a_word_is_what_a_reader_sees(load, kind, text, words):
    assert found_in(load(kind, WORDS), text) == [words]


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "roberta-prefix", "deberta-v3"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Texts of which tokenizers were reported to tell wrong offsets.
        ("[MASK]BMS", ["[MASK]", "BMS"]),
        (" the the", ["the", "the"]),
        ("part\u202f...", ["part", "..."]),
        ("A, naïve [MASK] AllenNLP", ["A", ",", "naïve", "[MASK]", "AllenNLP"]),
        ("T\x10 \x10\t \n \n    \x10\x10   \nis     \t\t \x10  a \t", ["T", "is", "a"]),
        ("\ub9c8\uc2e4\uae4c\ud574\u110b\u116d a", ["\ub9c8\uc2e4\uae4c\ud574\u110b\u116d", "a"]),
        ("ヿ i ⭢ j", ["ヿ", "i", "⭢", "j"]),
        ("17 yo", ["17", "yo"]),
    ],
)
def test_reported_texts(load, kind, text, words):
    (found,) = found_in(load(kind, WORDS), text)
    if words[-1] == "..." and found[-1] == ".":
        words = [*words[:-1], *"..."]
    assert found == words


def test_ideographs_are_words_to_some_tokenizers(load):
    assert found_in(load("wordpiece", WORDS), "中文 字") == [["中", "文", "字"]]
    assert found_in(load("roberta", WORDS), "中文 字") == [["中文", "字"]]
    assert found_in(load("t5", WORDS), "中文 字") == [["中文", "字"]]


def test_what_is_joined_is_one_word_where_joiners_are_white_space(load):
    assert found_in(load("xlm-r", WORDS), f"a {FAMILY} b") == [["a", FAMILY, "b"]]


def test_tokens_have_the_characters_they_stand_for(load):
    assert found_in(load("bytes", TOKENS), "\U0001f469") == [["\U0001f469"] * 4]
    assert found_in(load("unigram", TOKENS), "中 文") == [["", "中", " ", "文"]]
    assert found_in(load("t5", TOKENS), "…") == [["", "…", "…", "…"]]
    # White space to the tokenizer, yet a character of the text.
    assert found_in(load("t5", TOKENS), "\ufffd中") == [["\ufffd", "中"]]
    # Composed of two, of which the library tells the first alone.
    assert found_in(load("t5", TOKENS), "e\u0301") == [["", "e\u0301"]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_word_that_is_cut_keeps_its_characters_and_the_tokens_that_are_seen(load, side):
    tokenizer = load("wordpiece", WORDS, 5, lower_case=side == "left")
    tokenizer._frame = replace(tokenizer._frame, truncate_left=side == "left")
    tokenizer.spans._frame = tokenizer._frame
    text = "Hello world, a"
    whole = rows_of(load("wordpiece", WORDS).encode_with_spans([text])[3])[0]
    assert whole == [(0, 5, 1, 5), (6, 11, 5, 8), (11, 12, 8, 9), (13, 14, 9, 10)]
    cut = rows_of(tokenizer.encode_with_spans([text])[3])[0]
    right = [(0, 5, 1, 4)]
    left = [(6, 11, 1, 2), (11, 12, 2, 3), (13, 14, 3, 4)]
    assert cut == (left if side == "left" else right)


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "t5"])
def test_a_prompt_has_no_words(load, kind):
    prompted = load(kind, WORDS, 10_000, "query: ")
    bare = load(kind, WORDS)
    texts = [text for text in SENTENCES if text.isascii()]
    assert found_in(prompted, *texts) == found_in(bare, *texts)
    before = len(prompted.tokenizer.encode("query:", add_special_tokens=False).ids)
    rows = rows_of(prompted.encode_with_spans(texts)[3])
    assert all(first > before for row in rows for _, _, first, _ in row)


@pytest.mark.parametrize("kind", ["wordpiece", "qwen", "t5"])
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.few(2)
def test_long_texts_have_the_spans_of_the_whole(load, kind, left, monkeypatch):
    texts = ["short", " ".join(SENTENCES * 5), "हिन्दी में " * 300, "", "a \n" * 900]
    for rules in (TOKENS, WORDS, SpanRules("word", word_pattern=r"\w+")):
        for max_tokens in (24, 10_000):
            tokenizer = load(kind, rules, max_tokens, "passage: ")
            frame = replace(tokenizer._frame, truncate_left=left)
            monkeypatch.setattr(tokenizer, "_frame", frame)
            monkeypatch.setattr(tokenizer.spans, "_frame", frame)
            whole = rows_of(tokenizer.encode_with_spans(texts)[3])
            with monkeypatch.context() as patch:
                patch.setattr("embedkit.tokens.text_tokens.PIECE", 700)
                patch.setattr("embedkit.tokens.text_tokens.SLICE", 1500)
                ids, _, n_tokens, spans = tokenizer.encode_with_spans(texts)
                for ours, theirs in zip((ids, n_tokens), tokenizer.encode(texts)[::2], strict=True):
                    np.testing.assert_array_equal(ours, theirs)
            assert rows_of(spans) == whole


def test_a_token_longer_than_a_piece_has_all_its_characters(load, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.text_tokens.PIECE", 700)
    assert found_in(load("wordpiece", TOKENS, 24), "x" * 5000 + " a") == [["x" * 5000, "a"]]


@pytest.mark.parametrize("behind", ["\u200b", "\u00ad\u200b", "\u200b \u200b", "\x7f"])
def test_a_long_token_that_a_piece_holds_ends_where_it_ends(load, behind, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.text_tokens.PIECE", 700)
    text = f"{'a ' * 50}{'b' * 300}{behind} {'c ' * 500}"
    for rules in (TOKENS, WORDS):
        [found] = found_in(load("wordpiece", rules), text)
        assert found == ["a"] * 50 + ["b" * 300] + ["c"] * 500


@pytest.mark.parametrize("kind", ["wordpiece", "bare"])
def test_words_met_before_have_the_same_places(load, kind, monkeypatch):
    texts = [*MESSY, *SENTENCES, *PIECES, " ".join(PIECES), *paragraphs()[:40]]
    for rules in (TOKENS, WORDS):
        tokenizer = load(kind, rules)
        monkeypatch.setattr(tokenizer.spans._cache, "_most_new", 1.0)
        cached = rows_of(tokenizer.encode_with_spans(texts)[3])
        assert tokenizer.spans._cache._known
        monkeypatch.setattr(tokenizer.spans, "_cache", None)
        assert rows_of(tokenizer.encode_with_spans(texts)[3]) == cached


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "t5", "llama"])
@pytest.mark.parametrize("pattern", [r"\w+", r"[A-Za-z]+", r"\S*", r"\b", r"(?<=a) ?\p{L}", "."])
def test_matches_of_a_pattern_are_words(load, kind, pattern):
    texts = [*SENTENCES, f"a {FAMILY} b cafe\u0301"]
    rules = SpanRules("word", word_pattern=pattern)
    whole = load(kind, rules)
    expected = [[one for one in regex.findall(pattern, text) if one.strip()] for text in texts]
    found = found_in(whole, *texts)
    assert [[one for one in row if one.strip()] for row in found] == expected
    places = rows_of(whole.encode_with_spans(texts)[3])
    tokens = rows_of(load(kind, TOKENS).encode_with_spans(texts)[3])
    for words, of_row in zip(places, tokens, strict=True):
        for start, end, first, behind in words:
            own = [at for a, b, at, _ in of_row if a < end and b > start]
            assert (first, behind) == (own[0], own[-1] + 1)


@pytest.mark.parametrize("pattern", ["(", "[a", "*", r"\p{Foo}", "a{99999999999999999999}"])
def test_what_is_no_pattern_is_refused_in_one_line(saved, pattern):
    rules = SpanRules("word", word_pattern=pattern)
    with pytest.raises(ConfigError, match=r"^word_pattern: .* is no regular expression") as error:
        load_tokenizer(TokenizerSpec(saved("wordpiece"), 24, spans=rules))
    assert "\n" not in str(error.value)


def test_a_pattern_that_tries_all_ways_is_stopped(load, monkeypatch):
    monkeypatch.setattr("embedkit.tokens.words._PATIENCE", 0.2)
    tokenizer = load("wordpiece", SpanRules("word", word_pattern="(a|aa)+[bc]"))
    with pytest.raises(ConfigError, match="takes more than 0 seconds for one text") as error:
        tokenizer.encode_with_spans(["a" * 60 + "d"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["wordpiece", "roberta", "t5", "llama", "deberta-v3"])
def test_occurrences_of_given_words(load, kind):
    rules = SpanRules("word", words=("bat", "cafe\u0301", "Polish", "straße"))
    texts = [
        "Bat, the (bat). BAT! bats bat's-eye acrobat",
        "caf\u00e9 Cafe\u0301 cafe",
        "polish Polish POLISH",
        "STRASSE Straße",
        "none",
    ]
    tokenizer = load(kind, rules)
    assert found_in(tokenizer, *texts) == [
        ["Bat", "bat", "BAT", "bat"],
        ["caf\u00e9", "Cafe\u0301"],
        ["Polish"],
        ["STRASSE", "Straße"],
        [],
    ]
    rows = tokenize_text(block_of(texts), tokenizer).rows
    assert rows.column("spans").to_pylist()[-1] == []
    assert spans_of(rows).offsets.tolist() == [0, 4, 6, 7, 9, 9]


def test_given_words_are_whole_matches_of_a_pattern(load):
    rules = SpanRules("word", word_pattern=r"[\w-]+", words=("e-mail",))
    found = found_in(load("wordpiece", rules), "An E-Mail, e-mails, e-mail")
    assert found == [["E-Mail", "e-mail"]]


def test_given_words_that_cannot_occur_are_refused_in_one_line(saved):
    rules = SpanRules("word", words=("bat", "e-mail"))
    with pytest.raises(
        ConfigError, match=r"^words: 'e-mail' is no word .* 'e', '-', 'mail'"
    ) as error:
        load_tokenizer(TokenizerSpec(saved("wordpiece"), 24, spans=rules))
    assert "\n" not in str(error.value)
    load_tokenizer(TokenizerSpec(saved("t5"), 24, spans=rules))


def test_words_of_a_job_are_given_with_or_without_spaces():
    config = ModelConfig(model="m", granularity="word", words=" bat, bank,bat,")
    assert span_rules(config).words == ("bank", "bat")
    with pytest.raises(ConfigError, match="words: there is no word in it"):
        span_rules(config.model_copy(update={"words": ("", " ")}))


def block_of(texts):
    rows = [
        {
            "id": str(place), "doc_id": str(place), "chunk_index": 0, "char_start": 0,
            "char_end": len(text), "text_hash": "", "source": "a", "row_index": place, "text": text,
        }
        for place, text in enumerate(texts)
    ]  # fmt: skip
    batch = pa.RecordBatch.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    return DocumentBlock("0" * 8, 0, len(texts), True, (), batch)


def test_a_block_has_the_spans_and_the_names_of_its_tokens(load):
    tokenizer = load("wordpiece", SpanRules("token", special_tokens=True, token_texts=True), 24)
    rows = tokenize_text(block_of(["the fox", "\N{ZERO WIDTH SPACE}", "a"]), tokenizer).rows
    rows.validate(full=True)
    assert rows.column("text").to_pylist() == ["the fox", "a"]
    ids = rows.column("input_ids").to_pylist()
    names = [[tokenizer.tokenizer.id_to_token(one) for one in row] for row in ids]
    assert rows.column("tokens").to_pylist() == names
    assert [row[0] for row in names] == ["[CLS]"] * 2
    spans = rows.column("spans").to_pylist()
    assert [span["char_start"] for span in spans[1]] == [0, 0, 1]
    assert [span["char_end"] for span in spans[1]] == [0, 1, 1]
    assert spans_of(rows).starts.tolist() == [*range(len(ids[0])), 0, 1, 2]


def test_a_block_has_its_words(load):
    texts = ["the  fox", f"{FAMILY}\u00a0中 a", "é"]
    tokenizer = load("roberta", replace(WORDS, token_texts=True))
    rows = tokenize_text(block_of(texts), tokenizer).rows
    rows.validate(full=True)
    assert rows.column("tokens").to_pylist() == [["the", "fox"], [FAMILY, "中", "a"], ["é"]]
    empty = tokenize_text(block_of([]), tokenizer).rows
    assert (empty.num_rows, empty.schema) == (0, rows.schema)
