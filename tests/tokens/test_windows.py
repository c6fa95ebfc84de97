"""The windows that chunks are read in: whole texts, or parts with text around every chunk."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from embedkit.corpus.chunks import Spans, WindowChunker, chunk_documents, windows_of
from embedkit.records import DOCUMENT_SCHEMA
from embedkit.tokens.windows import LateChunker


def a_token_each(*characters: str) -> Tokenizer:
    """A tokenizer of words, or of characters where they are given."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Split("", "isolated") if characters else pre_tokenizers.WhitespaceSplit()
    )
    return tokenizer


class Every:
    """Chunks of so many words, without the white space at their ends."""

    def __init__(self, words: int) -> None:
        self.words = words

    def spans(self, texts: list[str]) -> list[Spans]:
        return [self._spans(text) for text in texts]

    def _spans(self, text: str) -> Spans:
        places = [at for at in range(len(text)) if text[at] != " "]
        begins = [at for at in places if at == 0 or text[at - 1] == " "]
        ends = [at + 1 for at in places if at + 1 == len(text) or text[at + 1] == " "]
        return list(zip(begins[:: self.words], _last_of(ends, self.words), strict=True))


def _last_of(ends: list[int], words: int) -> list[int]:
    return [ends[min(at + words, len(ends)) - 1] for at in range(0, len(ends), words)]


def late(words: int, tokens: int) -> LateChunker:
    return LateChunker(Every(words).spans, a_token_each(), tokens)


def words_of(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


def test_what_the_model_sees_whole_is_one_window():
    text = words_of(20)
    chunker = late(3, 20)
    (windows,) = chunker.windows([text], chunker.spans([text]))
    assert windows == [(0, len(text))] * 7


@settings(max_examples=200)
@given(
    count=st.integers(1, 400),
    words=st.integers(1, 12),
    tokens=st.integers(12, 90),
    gap=st.integers(1, 3),
)
def test_every_chunk_is_whole_in_its_window_with_text_around_it(count, words, tokens, gap):
    text = (" " * gap).join(f"w{number}" for number in range(count))
    chunker = late(words, tokens)
    spans = chunker.spans([text])
    (windows,) = chunker.windows([text], spans)
    assert len(windows) == len(spans[0])
    assert windows == sorted(windows)
    for (start, end), (begin, stop) in zip(spans[0], windows, strict=True):
        assert begin <= start < end <= stop <= len(text)
        assert len(text[begin:stop].split()) <= tokens
        around = min(tokens // 8, (tokens - tokens // 64 - words) // 2) - 1
        before, after = len(text[begin:start].split()), len(text[end:stop].split())
        assert begin == 0 or before >= around
        assert stop == len(text) or after >= around
    # Most of every window but the first and the last has not been read before.
    assert len(set(windows)) <= max(1, 2 * -(-count // max(1, tokens - 2 - 2 * (tokens // 8)))) + 2


def test_an_unbroken_text_keeps_text_around_its_chunks():
    text = "漢字" * 300
    spans = [(at, at + 10) for at in range(0, 600, 10)]
    chunker = LateChunker(Every(1).spans, a_token_each("every"), 100)
    (windows,) = chunker.windows([text], [spans])
    for (start, end), (begin, stop) in zip(spans, windows, strict=True):
        assert start - begin >= 12 or begin == 0
        assert stop - end >= 12 or stop == len(text)
        assert stop - begin <= 100


def test_a_chunk_as_long_as_a_window_is_one():
    text = words_of(100)
    chunker = late(20, 20)
    spans = chunker.spans([text])
    (windows,) = chunker.windows([text], spans)
    for (start, end), (begin, stop) in zip(spans[0], windows, strict=True):
        assert begin <= start < end <= stop
        assert len(text[begin:stop].split()) <= 20


def documents(*texts: str) -> pa.RecordBatch:
    columns = {name: ["x"] * len(texts) for name in ("id", "doc_id", "text_hash", "source")}
    numbers = {name: [0] * len(texts) for name in ("chunk_index", "char_start", "char_end")}
    rows = {**columns, **numbers, "row_index": list(range(len(texts))), "text": list(texts)}
    return pa.RecordBatch.from_pydict(rows, DOCUMENT_SCHEMA)


def test_rows_of_chunks_have_their_windows_behind_them():
    texts = [words_of(3), words_of(40)]
    rows = chunk_documents(documents(*texts), late(2, 16))
    windows, starts = rows.column("\0window").to_pylist(), rows.column("\0window_start").to_pylist()
    assert rows.schema.names[:-2] == DOCUMENT_SCHEMA.names
    window = ""
    for row, shown, start in zip(rows.to_pylist(), windows, starts, strict=True):
        window = shown if shown is not None else window
        inside = window[row["char_start"] - start : row["char_end"] - start]
        assert inside == row["text"] == texts[row["row_index"]][row["char_start"] : row["char_end"]]
    assert windows[:2] == [texts[0], None]
    assert 3 <= sum(one is not None for one in windows) < len(windows)


def test_the_hash_of_a_chunk_is_of_all_that_its_vector_depends_on():
    def hashes(*texts: str) -> list[str]:
        return chunk_documents(documents(*texts), late(2, 16)).column("text_hash").to_pylist()

    first, second = hashes("a b a b", "a b c d")[::2]
    assert len(set(hashes("a b a b"))) == 2
    assert first != second
    assert hashes("a b c d") == hashes("a b c d", "x")[:2]


def test_chunks_of_a_plain_chunker_have_no_windows():
    assert not isinstance(Every(2), WindowChunker)
    assert windows_of(Every(2), ["a b"], [[(0, 3)]]) is None
    assert chunk_documents(documents("a b c"), Every(2)).schema == DOCUMENT_SCHEMA


@pytest.mark.parametrize("text", ["", "   "])
def test_a_text_without_words_is_its_own_window(text):
    chunker = late(2, 8)
    assert chunker.windows([text], [[(0, len(text))]]) == [[(0, len(text))]]
