"""What one block takes in memory beside itself, which every further worker takes once more."""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import document_columns, record_batch

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.static.directory import write_directory
from embedkit.flow.encode import encode_tokens
from embedkit.records import DocumentBlock, TokenBlock
from embedkit.tokens.text_tokenizer import TextTokenizer
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.vectors import TokenBatch

ROWS, LENGTH, WIDTH = 1_500, 200, 300
WORDS = ["the", "fox", "rain", "vectors", "of"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    matrix = np.random.default_rng(2).normal(size=(len(WORDS), WIDTH)).astype(np.float32)
    write_directory(folder / "words", matrix, WORDS)
    return folder / "words"


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> TextTokenizer:
    return load_tokenizer(read_model(ModelConfig(model=str(model))).tokenizer)


def block_of(texts: list[str]) -> DocumentBlock:
    rows = record_batch(document_columns(texts, [str(n) for n in range(len(texts))]))
    return DocumentBlock("00000", 0, len(texts), True, (), rows)


@pytest.fixture(scope="module")
def documents() -> DocumentBlock:
    chosen = np.random.default_rng(3)
    texts = [" ".join(chosen.choice(WORDS, LENGTH)) for _ in range(ROWS)]
    # A text that occurs again, and unknown words, as any corpus has.
    texts[7], texts[9] = texts[3], f"king {texts[9]}"
    return block_of(texts)


@pytest.fixture(scope="module")
def tokens(documents: DocumentBlock, tokenizer: TextTokenizer) -> TokenBlock:
    return tokenize_text(documents, tokenizer)


def peak_of(function: Callable[[], Any]) -> int:
    """The most bytes that Python and NumPy held at once for a call, a second one of its kind."""
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_tokenizing_takes_little_more_than_the_ids(documents, tokens, tokenizer):
    text = sum(map(len, documents.rows.column("text").to_pylist()))
    ids = tokens.rows.column("input_ids").flatten().nbytes
    assert ids > 4 * ROWS * (LENGTH - 1)
    # In slices, which are joined at last; neither all texts nor a count at every token.
    assert peak_of(lambda: tokenize_text(documents, tokenizer)) < 3 * ids + 1.5e6
    assert text > ids


def test_encoding_takes_the_vectors_once_though_a_text_occurs_again(tokens):
    class Client:
        def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
            for batch in batches:
                yield np.full((len(batch), WIDTH), len(batch), dtype=np.float32)

    calls = 8_192
    vectors = 4 * ROWS * WIDTH
    assert vectors < peak_of(lambda: encode_tokens(tokens, Client(), calls)) < 1.5 * vectors


def test_a_call_to_the_encoder_looks_few_vectors_up_at_once(model, tokens):
    encoder = load_encoder(read_model(ModelConfig(model=str(model))))
    batch = TokenBatch.from_arrow(tokens.rows.column("input_ids")).take(np.arange(500))
    result = 4 * 500 * WIDTH
    assert peak_of(lambda: encoder.encode(batch)) < 4 * result + 3.5e6


@pytest.mark.parametrize(
    ("texts", "reasons"),
    [
        (["the fox", "king queen", " ", "rain"], ["out_of_vocabulary", "no_tokens"]),
        (["\u200b", "the", "the", "zebra"], ["no_tokens", "out_of_vocabulary"]),
        (["fox king", "of"], []),
    ],
)
def test_silent_and_unknown_texts_are_told_apart(texts, reasons, tokenizer):
    found = tokenize_text(block_of(texts), tokenizer)
    assert sorted(reject.reason for reject in found.rejects) == sorted(reasons)
    assert found.rows.num_rows == len(texts) - len(reasons)
