"""Chunks whose borders recover: an edit changes those around it, and no others."""

import random
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import corpus_config
from texts import paragraphs
from tokenizers import Tokenizer, models, pre_tokenizers

from embedkit.corpus.chunks import Chunker
from embedkit.tokens.chunking import make_chunker
from embedkit.tokens.text_units import piece_ends, sentence_ends
from embedkit.tokens.windows import LateChunker

KINDS = ["stable-sentences", "stable-paragraphs"]
_EDITS = 6
MOST_CHANGED = 12
"""Chunks on either side of an edit that may be others: most edits change two or three in all."""


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    """Every word and every mark is a token, so that counts are known, and quick."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    """Every character is a token, so that counts are known."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def chunker(kind: str, tokenizer: Tokenizer, tokens: int, overlap: int = 0) -> Chunker:
    config = corpus_config("x", chunk=kind, chunk_tokens=tokens, chunk_overlap=overlap)
    made = make_chunker(config, tokenizer, 256)
    assert made is not None
    return made


def chunks_of(made: Chunker, text: str) -> list[str]:
    [spans] = made.spans([text])
    return [text[start:end] for start, end in spans]


def moved(made: Chunker, old: str, new: str) -> tuple[int, int]:
    """Chunks of the new text that are not of the old one, and all of them.

    A chunk is of the old one where it has the same text and place, from the text's begin or end.
    """
    [before], [after] = made.spans([old]), made.spans([new])
    from_begin = {(old[a:b], a) for a, b in before}
    from_end = {(old[a:b], len(old) - a) for a, b in before}
    changed = [
        (a, b) for a, b in after
        if (new[a:b], a) not in from_begin and (new[a:b], len(new) - a) not in from_end
    ]  # fmt: skip
    return len(changed), len(after)


WORDS = (
    "the river stone of winter a quick brown letter was read by nobody else in town while "
    "several lamps burned over old bridges and harbours where ships lay waiting for their cargo"
).split()


def prose(chosen: random.Random, sentences: int) -> list[str]:
    return [
        " ".join(chosen.choices(WORDS, k=chosen.randint(3, 25))).capitalize() + chosen.choice(".!?")
        for _ in range(sentences)
    ]


def pages(chosen: random.Random, length: int, between: str = "\n\n") -> str:
    return between.join(" ".join(prose(chosen, chosen.randint(1, 9))) for _ in range(length))


def test_a_sentence_at_the_top_changes_two_percent_at_most(words: Tokenizer) -> None:
    texts = iter(random.Random(6).sample(paragraphs(), len(paragraphs())))
    new = chunks = 0
    for _ in range(4):
        text = "\n\n".join(islice(texts, 100))
        made = chunker("stable-sentences", words, 40)
        old = set(chunks_of(made, text))
        edited = chunks_of(made, f"This was not here yesterday. {text}")
        assert len(edited) > 100
        new += sum(chunk not in old for chunk in edited)
        chunks += len(edited)
    assert 0 < new <= chunks / 50


def joined(characters: str, end: str, lengths: tuple[int, int]) -> Callable[[random.Random], str]:
    def make(chosen: random.Random) -> str:
        return "".join(
            "".join(chosen.choices(characters.split(), k=chosen.randint(*lengths))) + end
            for _ in range(4000 // lengths[1])
        )

    return make


# Texts by name, and whether their words are tokens, or their characters.
TEXTS: dict[str, tuple[Callable[[random.Random], str], bool]] = {
    "English": (lambda chosen: " ".join(prose(chosen, 250)), True),
    "lines, CRLF": (lambda chosen: "\r\n".join(prose(chosen, 250)), True),
    "paragraphs": (lambda chosen: pages(chosen, 50), True),
    "paragraphs, CRLF": (lambda chosen: pages(chosen, 50, "\r\n\r\n"), True),
    "no stop": (lambda chosen: " ".join(chosen.choices(WORDS, k=3000)), True),
    "Chinese": (joined("漢 字 日 本 語 文 章 河 石 冬 天 讀 書 人", "。", (4, 30)), False),
    "Chinese, no stop": (joined("漢 字 日 本 語 文 章 河 石 冬 天 讀 書 人", "", (1, 1)), False),
    "Thai": (joined("ก ข ค ง จ ฉ ช ซ ด ต ถ ท น บ ป ผ", "", (1, 1)), False),
    "Arabic": (joined("كتب\u00a0 قرأ\u00a0 الولد\u00a0 نهر\u00a0", "؟ ", (3, 9)), False),
    "emoji": (joined("😀 👩‍👩‍👧 🇩🇪 👍🏽 é e\u0301", "", (1, 1)), False),
    "one word": (joined("0 1 2 3 4 5 6 7 8 9 a b c d e f", "", (1, 1)), False),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.few(4)
def test_an_edit_anywhere_changes_few_chunks(
    words: Tokenizer, characters: Tokenizer, name: str
) -> None:
    kind = KINDS["paragraphs" in name]
    make, by_words = TEXTS[name]
    chosen = random.Random(7)
    text = make(chosen)
    made = chunker(kind, words, 50) if by_words else chunker(kind, characters, 70)
    total = 0
    for number in range(_EDITS):
        at = 0 if number == 0 else chosen.randrange(len(text))
        size = 0 if number % 3 == 0 else chosen.randrange(1, 200)
        new = text[:at] + ("" if number % 3 == 1 else "A new one, as it is. ") + text[at + size :]
        changed, chunks = moved(made, text, new)
        assert chunks > 25
        assert changed <= MOST_CHANGED
        total += changed
    assert total / _EDITS < 5


new_texts = st.one_of(st.text(max_size=40), st.just("One. Two. "))
edits = st.tuples(st.integers(0, 10**6), st.integers(0, 300), new_texts)


def check_recovery(
    made: Chunker, length: int, seed: int, edit: tuple[int, int, str], tokens: int
) -> None:
    chosen = random.Random(seed)
    place, size, inserted = edit
    text = pages(chosen, length)
    at = place % (len(text) + 1)
    changed, _ = moved(made, text, text[:at] + inserted + text[at + size :])
    # What is inserted may be several chunks by itself.
    assert changed <= MOST_CHANGED + len(inserted) // tokens


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), edit=edits, tokens=st.integers(8, 60))
def test_borders_recover_after_any_edit(
    words: Tokenizer, kind: str, seed: int, edit: tuple[int, int, str], tokens: int
) -> None:
    check_recovery(chunker(kind, words, tokens), 12, seed, edit, tokens)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), edit=edits, tokens=st.integers(8, 60))
def test_borders_recover_after_any_edit_of_long_texts(
    words: Tokenizer, kind: str, seed: int, edit: tuple[int, int, str], tokens: int
) -> None:
    check_recovery(chunker(kind, words, tokens), 40, seed, edit, tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "period", ["Yes. ", "One. Two! Four five? ", "a b ", "x", "漢字", "Line\n\n"]
)
def test_what_repeats_is_cut_into_chunks_that_repeat(
    characters: Tokenizer, kind: str, period: str
) -> None:
    made = chunker(kind, characters, 60)
    old = chunks_of(made, period * 100)
    new = chunks_of(made, "Something else. " + period * 100)
    assert len(set(new) - set(old)) <= 4
    assert len(set(new)) <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_have_between_half_and_all_of_the_tokens(words: Tokenizer, kind: str) -> None:
    text = pages(random.Random(3), 60)
    sizes = [len(words.encode(chunk)) for chunk in chunks_of(chunker(kind, words, 100), text)]
    assert max(sizes) <= 100
    assert sum(sizes) / len(sizes) > 60
    assert sum(size < 50 for size in sizes) < len(sizes) / 6
    if kind == "stable-sentences":
        assert all(one + following > 100 for one, following in pairwise(sizes))


def test_what_fits_is_not_cut(words: Tokenizer) -> None:
    chosen = random.Random(5)
    paragraphs = [" ".join(prose(chosen, chosen.randint(1, 4))) for _ in range(40)]
    text = "\n\n".join(paragraphs)
    chunks = chunks_of(chunker("stable-paragraphs", words, 110), text)
    assert [part for chunk in chunks for part in chunk.split("\n\n")] == paragraphs
    chunks = chunks_of(chunker("stable-sentences", words, 30), text)
    assert len(chunks) > 40
    assert all(chunk[0].isupper() and chunk[-1] in ".!?" for chunk in chunks)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. No came. He left", ["Dr. No came.", "He left"]),
        ("J. R. Smith, i.e. he. Yes", ["J. R. Smith, i.e. he.", "Yes"]),
        ('He said "Stop!" and went. Then', ['He said "Stop!" and went.', "Then"]),
        ("Wait... What?! (Really.) Yes", ["Wait...", "What?!", "(Really.)", "Yes"]),
        ("漢字。「日本。」語", ["漢字。", "「日本。」", "語"]),
        ("كيف؟ نعم", ["كيف؟", "نعم"]),
        ("पहला। दूसरा", ["पहला।", "दूसरा"]),
        ("A title\n\nA line\r\nof text. More", ["A title", "A line\r\nof text.", "More"]),
        ("Version 1.5 of a.b. Next", ["Version 1.5 of a.b.", "Next"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    ends = sentence_ends(text).tolist()
    assert [text[a:b].strip() for a, b in pairwise((0, *ends))] == sentences


def test_pieces_of_words_keep_what_is_seen_as_one_character() -> None:
    clusters = ["😀", "👩\u200d👩\u200d👧", "👍🏽", "e\u0301", "\u0915\u094d"]
    text = "".join(random.Random(1).choices(clusters, k=500))
    ends = piece_ends(text).tolist()
    assert len(ends) > 20
    assert "".join(text[a:b] for a, b in pairwise((0, *ends))) == text
    starts = {text[end] for end in ends[:-1]}
    assert starts <= {cluster[0] for cluster in clusters}
    assert not [end for end in ends[:-1] if text[end - 1] == "\u200d"]


def test_chunks_overlap_by_whole_sentences_or_words(words: Tokenizer) -> None:
    sentences = prose(random.Random(2), 60)
    text = " ".join(sentences)
    made = chunker("stable-sentences", words, 60, 12)
    [spans] = made.spans([text])
    plain = chunker("stable-sentences", words, 48)
    assert [end for _, end in spans] == [end for _, end in plain.spans([text])[0]]
    shared = [text[start:end] for (_, end), (start, _) in pairwise(spans)]
    assert all(0 < len(words.encode(one)) <= 12 for one in shared)
    assert {True, False} == {one[0].isupper() for one in shared}


def test_windows_of_late_chunks_recover_as_well(words: Tokenizer) -> None:
    made = chunker("stable-sentences", words, 25, 5)
    late = LateChunker(made.spans, words, 160, stable=True)
    text = pages(random.Random(4), 70)

    def read(text: str) -> set[tuple[str, int, int]]:
        [spans] = late.spans([text])
        [windows] = late.windows([text], [spans])
        assert len(windows) == len(spans) > 100
        for (start, end), (begin, stop) in zip(spans, windows, strict=True):
            assert begin <= start < end <= stop
            assert len(words.encode(text[begin:stop])) <= 160
            # Text on both sides, where there is any.
            assert begin == 0 or start - begin > 30
            assert stop == len(text) or stop - end > 30
        return {
            (text[begin:stop], start - begin, end - begin)
            for (start, end), (begin, stop) in zip(spans, windows, strict=True)
        }

    old = read(text)
    for place in (0, len(text) // 2):
        at = text.index(" ", place) + 1
        new = read(f"{text[:at]}A new sentence stands here. {text[at:]}")
        assert 0 < len(new - old) < len(new) / 5
