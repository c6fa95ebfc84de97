"""The tokens of chunks in their windows, whatever the tokenizer makes of the text."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from texts import MESSY
from tiny_models import SENTENCES, make_tokenizer

from embedkit.config import RecordConfig
from embedkit.corpus.chunks import chunk_documents
from embedkit.flow.windows import window_batch
from embedkit.records import DOCUMENT_SCHEMA, WINDOW, WINDOW_START, DocumentBlock
from embedkit.tokens.chunking import make_chunker
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.tokens.windows import LateChunker

KINDS = ["wordpiece", "unigram", "bytes", "bare"]
TEXTS = [*SENTENCES, *(text for text in MESSY if text.strip()), " ".join(SENTENCES) * 3]


@pytest.fixture(scope="module", params=itertools.product(KINDS, ["", "passage: "]))
def tokenizer(request, tmp_path_factory) -> TextTokenizer:
    kind, prompt = request.param
    directory = tmp_path_factory.mktemp(kind)
    make_tokenizer(kind).save_pretrained(directory)
    return load_tokenizer(TokenizerSpec(str(directory), 40, prompt))


def chunks(texts: list[str], tokenizer: TextTokenizer, tokens: int = 8) -> pa.RecordBatch:
    names = [f"d{number}" for number in range(len(texts))]
    columns = {name: names for name in ("id", "doc_id", "text_hash", "source")}
    numbers = {name: [0] * len(texts) for name in ("chunk_index", "char_start", "char_end")}
    rows = {**columns, **numbers, "row_index": list(range(len(texts))), "text": texts}
    config = RecordConfig(chunk="sentences", chunk_tokens=tokens)
    room = tokenizer.max_content_tokens
    chunker = make_chunker(config, tokenizer.tokenizer, room)
    documents = pa.RecordBatch.from_pydict(rows, DOCUMENT_SCHEMA)
    return chunk_documents(documents, LateChunker(chunker.spans, tokenizer.tokenizer, room))


def tokenized(rows: pa.RecordBatch, tokenizer: TextTokenizer):
    return tokenize_text(DocumentBlock("00000", 0, 99, True, (), rows), tokenizer)


@pytest.mark.few(3)
def test_each_chunk_has_the_tokens_that_stand_for_its_characters(tokenizer):
    rows = chunks(TEXTS, tokenizer)
    block = tokenized(rows, tokenizer)
    batch, places = window_batch(block.rows)
    windows = rows.column(WINDOW.name)
    of_row = np.cumsum(windows.is_valid().to_numpy(zero_copy_only=False)) - 1
    texts = windows.drop_null().to_pylist()
    ids, offsets, _, tokens = tokenizer.encode_with_tokens(texts)
    found = {
        row["id"]: row | {"place": n} for row, n in zip(block.rows.to_pylist(), places, strict=True)
    }
    whole = np.repeat(np.arange(len(batch)), np.diff(batch.spans.offsets))
    for row, number in zip(rows.to_pylist(), of_row, strict=True):
        begin = row[WINDOW_START.name]
        inside = slice(*tokens.offsets[number : number + 2])
        starts, ends = tokens.char_starts[inside], tokens.char_ends[inside]
        here = (starts < ends) & (starts < row["char_end"] - begin)
        here &= ends > row["char_start"] - begin
        if row["id"] not in found:
            continue
        place = found[row["id"]]["place"]
        first, last = tokens.token_starts[inside][here], tokens.token_ends[inside][here]
        span = int(batch.spans.starts[place]), int(batch.spans.ends[place])
        assert span == (first.min(), last.max())
        assert found[row["id"]]["n_tokens"] == span[1] - span[0]
        window = int(whole[place])
        np.testing.assert_array_equal(
            batch.input_ids[batch.offsets[window] : batch.offsets[window + 1]],
            ids[offsets[number] : offsets[number + 1]],
        )
    assert len(found) > 0.9 * len(rows)
    assert batch.lengths.max() <= 40


def test_no_token_of_visible_text_is_of_no_chunk(tokenizer):
    rows = chunks(SENTENCES, tokenizer, tokens=12)
    block = tokenized(rows, tokenizer)
    assert not block.rejects
    for number, text in enumerate(SENTENCES):
        own = [row for row in block.rows.to_pylist() if row["doc_id"] == f"d{number}"]
        if sum(len(row["input_ids"]) > 0 for row in own) > 1:
            continue
        _, _, _, tokens = tokenizer.encode_with_tokens([text])
        spans = [(row["\0token_start"], row["\0token_end"]) for row in own]
        for n, place in enumerate(tokens.token_starts.tolist()):
            if text[tokens.char_starts[n] : tokens.char_ends[n]].strip():
                assert sum(start <= place < end for start, end in spans) >= 1


def test_a_document_that_says_nothing_is_rejected_and_a_chunk_is_left_out(tokenizer):
    rows = chunks(["\u200b \u200b", "Rain and wind"], tokenizer)
    block = tokenized(rows, tokenizer)
    said = set(block.rows.column("doc_id").to_pylist())
    assert "d1" in said
    assert {reject.doc_id for reject in block.rejects} == {"d0", "d1"} - said
    assert all(reject.reason == "no_tokens" for reject in block.rejects)


def test_a_block_without_rows_stays_one(tokenizer):
    rows = chunks(["Rain"], tokenizer).slice(0, 0)
    block = tokenized(rows, tokenizer)
    assert block.rows.num_rows == 0
    assert len(window_batch(block.rows)[0]) == 0
