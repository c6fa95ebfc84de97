"""The tokens of long texts, piece by piece, against those of the whole text."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SENTENCES, make_tokenizer
from tokenizers import Tokenizer

from embedkit.tokens.text_tokens import count_tokens, text_slices, token_pieces

KINDS = ["wordpiece", "mpnet", "unigram", "xlm", "bytes", "bare"]
random_ = random.Random(0)
PROSE = " ".join(SENTENCES * 3) + "\n\n" + "".join(SENTENCES)
RUNS = {
    "prose": PROSE * 80,
    "dots": "." * 150_000,
    "one word": "x" * 150_000 + " end",
    "a word with a short rest": "x" * (2 * 32_768 + 60) + " end",
    "hex": "".join(random_.choices("0123456789abcdef", k=150_000)),
    "ideographs": "".join(random_.choices("漢字日本語中文本", k=150_000)),
    "emoji": "\N{GRINNING FACE}" * 70_000,
    "numbers": "10.2." * 30_000,
    "line ends": "a" + "\n" * 150_000 + "b",
    "zero width": "\N{ZERO WIDTH SPACE}" * 100_000 + "a",
    "marks": "a" + "\N{COMBINING ACUTE ACCENT}" * 70_000,
    "joined": "\N{WOMAN}\N{ZERO WIDTH JOINER}" * 40_000,
    "ascii": "".join(map(chr, random_.choices(range(33, 127), k=150_000))),
}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    made = {}
    for kind in KINDS:
        made[kind] = make_tokenizer(kind).backend_tokenizer
        made[kind].no_padding()
        made[kind].no_truncation()
    return made


def pieces_of(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    found = list(token_pieces(tokenizer, text))
    ids, starts = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return ids.tolist(), starts.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.few(13)
def test_pieces_have_the_tokens_of_the_whole(
    tokenizers: dict[str, Tokenizer], kind: str, run: str
) -> None:
    whole = tokenizers[kind].encode(RUNS[run], add_special_tokens=False)
    ids, starts = pieces_of(tokenizers[kind], RUNS[run])
    assert ids == whole.ids
    assert starts == [start for start, _ in whole.offsets]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.sampled_from([*SENTENCES, " ", "\n", "a ", ". ", "é", "漢", "x" * 300, "\u200b"]),
        ),
        min_size=20,
        max_size=120,
    ).map("".join),
    st.sampled_from(KINDS),
)
def test_any_text_has_the_tokens_of_the_whole(
    tokenizers: dict[str, Tokenizer], text: str, kind: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedkit.tokens.text_tokens.PIECE", 600)
        ids, _ = pieces_of(tokenizers[kind], text)
    assert ids == tokenizers[kind].encode(text, add_special_tokens=False).ids


def test_counts_are_those_of_the_texts_one_by_one(tokenizers: dict[str, Tokenizer]) -> None:
    texts = ["", *SENTENCES, RUNS["prose"], "a", RUNS["dots"], RUNS["hex"], "", "b"]
    tokenizer = tokenizers["bytes"]
    expected = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    assert count_tokens(tokenizer, texts) == expected
    assert count_tokens(tokenizer, iter(texts)) == expected
    assert count_tokens(tokenizer, []) == []
    assert [text for some in text_slices(texts) for text in some] == texts


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", ["dots", "one word", "hex", "ideographs", "marks"])
def test_time_is_linear(tokenizers: dict[str, Tokenizer], kind: str, run: str) -> None:
    text = (RUNS[run] * 14)[:1_000_000]
    started = time.process_time()
    sum(len(ids) for ids, _ in token_pieces(tokenizers[kind], text))
    assert time.process_time() - started < 30
