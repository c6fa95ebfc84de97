"""Chunks: exact spans, no more tokens than allowed, nothing lost."""

import itertools
import json
import random
import re
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading import corpus_config, read_corpus, write
from texts import MESSY
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from embedkit.corpus.chunks import Chunker, chunk_documents
from embedkit.errors import ConfigError
from embedkit.hashes.digests import text_hash
from embedkit.tokens.chunking import make_chunker
from embedkit.tokens.token_chunking import TokenChunker

# Paragraphs that are too long are cut as sentences are.
KINDS = [
    "tokens",
    "sentences",
    "paragraphs",
    "stable-paragraphs",
    pytest.param("stable-sentences", marks=pytest.mark.soak),
]


SAMPLE = ["The quick brown fox. A sentence, and another one!", "漢字 かな", "one two three"] * 9


@pytest.fixture(scope="module")
def minilm_pieces(minilm: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(Path(minilm) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@pytest.fixture(scope="module")
def word_pieces() -> Tokenizer:
    """A WordPiece as BERT has it, but small: it lowers, strips accents and drops characters."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def byte_pieces() -> Tokenizer:
    """A byte-level BPE as RoBERTa has it: a character may take several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def unigram_pieces() -> Tokenizer:
    """A Unigram model as T5 and XLM-R have it: a space belongs to the word behind it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return tokenizer


@pytest.fixture(params=["word", "byte", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(f"{request.param}_pieces")


def chunker(kind: str, tokenizer: Tokenizer, tokens: int, overlap: int = 0) -> Chunker:
    config = corpus_config("x", chunk=kind, chunk_tokens=tokens, chunk_overlap=overlap)
    made = make_chunker(config, tokenizer, 256)
    assert made is not None
    return made


def count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


def check(text: str, spans: list[tuple[int, int]], tokenizer: Tokenizer, tokens: int) -> None:
    """What is promised of any text's chunks."""
    if not text.strip():
        assert spans == [(0, len(text))]
        return
    for start, end in spans:
        assert 0 <= start < end <= len(text)
        chunk = text[start:end]
        assert chunk == chunk.strip()
        # A character that takes more tokens than a chunk may have cannot be parted.
        assert count(tokenizer, chunk) <= tokens or end - start == 1
    starts, ends = zip(*spans, strict=True)
    assert list(starts) == sorted(set(starts))
    assert list(ends) == sorted(set(ends))
    covered = bytearray(len(text))
    for start, end in spans:
        covered[start:end] = bytes([1]) * (end - start)
    lost = "".join(char for char, held in zip(text, covered, strict=True) if not held)
    assert not lost.strip()


messy = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["word ", "two words. ", "A question? ", "\n\n", "\r\n", "é", "e\u0301",
             "漢字かな", "👩‍👩‍👧",
             "\u200b", "\u3000", "x" * 60, "1.5 ", "\x00", "ﷺ", "\U000e0001"]
        ),
    ),
    max_size=25,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=messy, tokens=st.integers(1, 25))
@pytest.mark.few(4)
def test_any_text_is_cut_without_loss(
    tokenizer: Tokenizer, kind: str, text: str, tokens: int
) -> None:
    [spans] = chunker(kind, tokenizer, tokens).spans([text])
    check(text, spans, tokenizer, tokens)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80)
@given(text=messy, tokens=st.integers(2, 25), share=st.floats(0.05, 0.9))
@pytest.mark.few(2)
def test_overlapping_chunks_lose_nothing_either(
    word_pieces: Tokenizer, kind: str, text: str, tokens: int, share: float
) -> None:
    overlap = max(1, int(tokens * share))
    [spans] = chunker(kind, word_pieces, tokens, min(overlap, tokens - 1)).spans([text])
    check(text, spans, word_pieces, tokens)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [8])
@pytest.mark.few(4)
def test_strings_that_break_programs(tokenizer: Tokenizer, kind: str, tokens: int) -> None:
    texts = [*MESSY, " ".join(MESSY), "\n".join(MESSY)]
    for text, spans in zip(texts, chunker(kind, tokenizer, tokens).spans(texts), strict=True):
        check(text, spans, tokenizer, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_does_not_depend_on_its_batch(tokenizer: Tokenizer, kind: str) -> None:
    texts = ["Short.", "One sentence here. " * 20, "", "漢字 " * 30, "\n\n".join("abc")]
    made = chunker(kind, tokenizer, 12, 3)
    assert made.spans(texts) == [made.spans([text])[0] for text in texts]


def test_windows_of_tokens_overlap_as_asked(minilm_pieces: Tokenizer) -> None:
    # Every word is one token, so all is known beforehand.
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    text = " ".join(words)
    assert count(minilm_pieces, text) == 10

    def cut(tokens: int, overlap: int) -> list[list[str]]:
        [spans] = TokenChunker(minilm_pieces, tokens, overlap).spans([text])
        return [text[start:end].split() for start, end in spans]

    assert cut(4, 0) == [words[:4], words[4:8], words[8:]]
    assert cut(4, 1) == [words[:4], words[3:7], words[6:]]
    assert cut(4, 3) == [words[n : n + 4] for n in range(7)]
    assert cut(10, 5) == [words]


def test_windows_end_at_words(minilm_pieces: Tokenizer) -> None:
    text = "incomprehensibility " * 40
    [spans] = TokenChunker(minilm_pieces, 16, 0).spans([text])
    assert {text[start:end].split()[-1] for start, end in spans} == {"incomprehensibility"}


def test_windows_keep_a_large_overlap_rather_than_end_at_words(minilm_pieces: Tokenizer) -> None:
    text = " ".join(["0:0:"] * 5)
    [spans] = TokenChunker(minilm_pieces, 6, 4).spans([text])
    check(text, spans, minilm_pieces, 6)
    for (start, end), (following, _) in itertools.pairwise(spans):
        assert start < following < end
        assert count(minilm_pieces, text[following:end]) == 4


def test_sentences_and_paragraphs_end_where_they_end(minilm_pieces: Tokenizer) -> None:
    sentences = [f"This is sentence number {n} of them, Dr. No said." for n in range(12)]
    text = "\n".join(sentences)
    [spans] = chunker("sentences", minilm_pieces, 40).spans([text])
    chunks = [text[start:end] for start, end in spans]
    assert len(chunks) > 3
    assert all(re.fullmatch(r"This .* said\.", chunk, re.DOTALL) for chunk in chunks)
    # Line ends do not count: sentences fill each chunk.
    assert all("\n" in chunk for chunk in chunks)

    paragraphs = ["\n".join(sentences[n : n + 2]) for n in range(0, 12, 2)]
    text = "\n\n".join(paragraphs)
    [spans] = chunker("paragraphs", minilm_pieces, 40).spans([text])
    assert [text[start:end] for start, end in spans] == paragraphs


def test_a_short_text_is_one_chunk_without_its_margins(tokenizer: Tokenizer) -> None:
    for kind in ("tokens", "sentences", "paragraphs", "stable-sentences"):
        assert chunker(kind, tokenizer, 20).spans(["  a text \n"]) == [[(2, 8)]]


def test_a_long_text_is_tokenized_in_pieces(
    word_pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(f"word{n} and éclair" for n in range(3000))
    whole = TokenChunker(word_pieces, 50, 5).spans([text])
    monkeypatch.setattr("embedkit.tokens.text_tokens.PIECE", 1500)
    assert TokenChunker(word_pieces, 50, 5).spans([text]) == whole


def test_a_long_text_without_spaces(tokenizer: Tokenizer) -> None:
    text = "漢" * 70_000 + "x" * 70_000
    [spans] = TokenChunker(tokenizer, 100, 0).spans([text])
    check(text, spans, tokenizer, 100)


@pytest.mark.parametrize("kind", KINDS)
def test_no_chunk_is_without_tokens(word_pieces: Tokenizer, kind: str) -> None:
    marks = "\u200b\u2060" * 40
    text = f"{marks}\n\n" + f"one two three four. \n\n{marks}\n\n" * 9
    [spans] = chunker(kind, word_pieces, 5).spans([text])
    check(text, spans, word_pieces, 5)
    assert len(spans) > 5
    assert all(count(word_pieces, text[start:end]) for start, end in spans)
    assert chunker(kind, word_pieces, 5).spans([marks]) == [[(0, len(marks))]]


def prose(characters: int) -> str:
    """Paragraphs, lines and sentences of many lengths."""
    chosen = random.Random(1)
    words = "the river Stone of winter, 1.5 Mr. is was-not (old) \u00e9clair a \u6f22\u5b57".split()
    ends = [". ", "! ", "? ", ".\n", ".\n\n", ";\n", ".\n\n\n", "\u3002", '." ']
    parts = []
    while sum(map(len, parts)) < characters:
        parts.append(" ".join(chosen.choices(words, k=chosen.randint(1, 30))))
        parts.append(chosen.choice(ends))
    return "".join(parts)


@pytest.mark.parametrize("kind", ["tokens", "sentences", "paragraphs"])
@pytest.mark.parametrize("overlap", [0, 9])
@pytest.mark.few(6)
def test_a_long_text_is_split_in_windows_as_if_at_once(
    tokenizer: Tokenizer, kind: str, overlap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = prose(20_000)
    made = chunker(kind, tokenizer, 30, overlap)
    whole = made.spans([text])
    monkeypatch.setattr("embedkit.tokens.chunking._WINDOW", 2000)
    assert made.spans([text]) == whole


UNBROKEN = {
    "hex": "".join(random.Random(0).choices("0123456789abcdef", k=1_000_000)),
    "dots": "." * 1_000_000,
    "one word": "x" * 1_000_000,
    "ideographs": "".join(random.Random(0).choices("\u6f22\u5b57\u65e5\u672c", k=300_000)),
    "thai": "".join(random.Random(0).choices("\u0e01\u0e02\u0e04\u0e07", k=300_000)),
    "numbers": "10.2." * 60_000,
    "commas": "a,b;" * 75_000,
    "marks": "a" + "\u0301" * 300_000,
    "joined": "\U0001f469\u200d" * 100_000,
    "emoji": "\U0001f600" * 200_000,
    "runs between words": ("x" * 5000 + " and words. ") * 80,
    "no stop": "lorem ipsum dolor sit amet " * 20_000,
    "short words": "a b c d " * 100_000,
    "line ends": "a" + "\n" * 300_000 + "b",
}


def check_unbroken(kind: str, tokenizer: Tokenizer, text: str, seconds: float) -> None:
    started = time.process_time()
    [spans] = chunker(kind, tokenizer, 200).spans([text])
    assert time.process_time() - started < seconds
    assert spans[0][0] == 0
    assert spans[-1][1] >= len(text.rstrip())
    assert all(start < end for start, end in spans)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert not text[end:start].strip()
    for start, end in spans[:3] + spans[-3:]:
        assert count(tokenizer, text[start:end]) <= 200


@pytest.mark.parametrize("kind", ["paragraphs"])
@pytest.mark.parametrize("run", UNBROKEN)
@pytest.mark.few(4)
def test_text_without_a_stop_takes_linear_time(byte_pieces: Tokenizer, kind: str, run: str) -> None:
    # With the square of the text it would be 40 seconds and more.
    check_unbroken(kind, byte_pieces, UNBROKEN[run][:100_000], 20)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("run", UNBROKEN)
def test_long_text_without_a_stop_takes_linear_time(
    tokenizer: Tokenizer, kind: str, run: str
) -> None:
    check_unbroken(kind, tokenizer, UNBROKEN[run], 60)


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"chunk_tokens": 257}, "chunk_tokens 257.*256"),
        ({"chunk_tokens": 10, "chunk_overlap": 10}, "chunk_overlap 10"),
        ({"chunk_overlap": 256}, "chunk_overlap 256"),
    ],
)
def test_chunks_that_cannot_be(
    word_pieces: Tokenizer, settings_: dict[str, int], said: str
) -> None:
    for kind in ("tokens", "sentences", "paragraphs", "stable-sentences"):
        with pytest.raises(ConfigError, match=said):
            make_chunker(corpus_config("x", chunk=kind, **settings_), word_pieces, 256)
    assert make_chunker(corpus_config("x", **settings_), word_pieces, 256) is None


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_documents_keep_all_else(tmp_path: Path, word_pieces: Tokenizer, kind: str) -> None:
    records = [
        {"id": f"d{n}", "text": f"Sentence one of {n}. Sentence two é. " * (n % 7), "n": n}
        for n in range(60)
    ]
    path = write(tmp_path / "a.jsonl", [json.dumps(record) for record in records])
    settings_ = {"id_column": "id", "metadata_columns": ("n",), "split_bytes": 900}
    whole = read_corpus(path, **settings_)
    corpus = read_corpus(path, chunker=chunker(kind, word_pieces, 9), **settings_)
    texts = {row["doc_id"]: row for row in whole.rows}
    assert corpus.rejects == whole.rejects
    assert len(corpus.rejects) == 9
    assert corpus.table.num_rows > 3 * whole.table.num_rows
    seen: dict[str, int] = {}
    for row in corpus.rows:
        document = texts[row["doc_id"]]
        index = seen.get(row["doc_id"], -1) + 1
        seen[row["doc_id"]] = index
        assert row["chunk_index"] == index
        assert row["id"] == f"{row['doc_id']}:{index}"
        assert row["text"] == document["text"][row["char_start"] : row["char_end"]]
        assert row["text_hash"] == text_hash(row["text"])
        for name in ("source", "row_index", "n"):
            assert row[name] == document[name]
    assert set(seen) == set(texts)


def test_chunks_of_no_rows(word_pieces: Tokenizer, tmp_path: Path) -> None:
    empty = read_corpus(write(tmp_path / "a.txt", "")).blocks[0].rows
    assert chunk_documents(empty, chunker("tokens", word_pieces, 5)).equals(empty)
    assert isinstance(empty, pa.RecordBatch)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=messy, tokens=st.integers(1, 40), overlap=st.integers(0, 39))
def test_any_text_at_length(
    tokenizer: Tokenizer, kind: str, text: str, tokens: int, overlap: int
) -> None:
    [spans] = chunker(kind, tokenizer, tokens, min(overlap, tokens - 1)).spans([text])
    check(text, spans, tokenizer, tokens)
