"""Models as they are loaded for the stream, on the CPU: whole encoders, and what is padded."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_models import CONFIGURATIONS, MAX_TOKENS, SENTENCES, make_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.transformer.load import load_transformer
from embedkit.encoders.transformer.stream import load
from embedkit.encoders.transformer.stream.backend import StreamBackend
from embedkit.encoders.transformer.torch_backend import TorchBackend
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

BOUND = 2e-5
STREAMED = ("bert", "distilbert", "roberta", "xlm-roberta", "modernbert")


def spec_of(directory: str, **settings: Any) -> Any:
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32", "batch_tokens": 2048}
    spec = read_model(ModelConfig(model=directory, **(wanted | settings)))
    return replace(spec, placement=replace(spec.placement, unpadded=True))


def tokens_of(spec: Any, texts: list[str]) -> TokenBatch:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts)
    return TokenBatch(ids, offsets)


@pytest.mark.parametrize("architecture", STREAMED)
def test_vectors_are_those_of_sentence_transformers(architecture, sentence_model):
    """Among the texts are empty ones, and some that are longer than the model's maximum."""
    directory = sentence_model(architecture)
    spec = spec_of(directory)
    batch = tokens_of(spec, [*SENTENCES, "", "word " * 1000])
    assert batch.lengths.max() == MAX_TOKENS
    encoder = load_encoder(spec)
    expected = SentenceTransformer(directory, device="cpu").encode([*SENTENCES, "", "word " * 1000])
    np.testing.assert_allclose(encoder.encode(batch), expected, rtol=0, atol=BOUND)
    assert encoder.computed_tokens > len(batch.input_ids)


@pytest.mark.soak
def test_minilm(minilm):
    spec = spec_of(minilm, batch_tokens=4096)
    texts = [f"{first} {second}" for first in SENTENCES for second in SENTENCES][::4]
    texts += ["one [PAD] two", "lengthy " * 400]
    expected = SentenceTransformer(minilm, device="cpu").encode(texts)
    vectors = load_encoder(spec).encode(tokens_of(spec, texts))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=BOUND)


@pytest.mark.parametrize(
    ("precision", "least"),
    [pytest.param("float16", 0.9999, marks=pytest.mark.soak), ("bfloat16", 0.9995)],
)
@pytest.mark.soak
def test_half_precision(precision, least, minilm):
    texts = [f"{first} {second}" for first in SENTENCES for second in SENTENCES][::4]
    expected = SentenceTransformer(minilm, device="cpu").encode(texts)
    spec = spec_of(minilm, precision=precision)
    vectors = load_encoder(spec).encode(tokens_of(spec, texts))
    cosines = (vectors * expected).sum(axis=1)
    print(f"\n{precision}: least cosine {cosines.min():.6f}")
    assert least <= cosines.min() < 1 - 1e-7


@pytest.mark.parametrize("pad_id", [0, 3])
def test_text_with_the_id_that_the_model_alone_takes_for_fill(pad_id, sentence_model):
    """The tokenizer fills with another id than that behind which the model begins to count."""
    spec = replace(spec_of(sentence_model("xlm-roberta")), pad_id=pad_id)
    batch = TokenBatch.from_lists([[0, 7, 1, 9, 2], [0, 7, 9, 2], [5, 3, 3, 6]])
    padded = replace(spec, placement=replace(spec.placement, unpadded=False))
    backend = load.stream_backend(spec)
    assert isinstance(backend, StreamBackend)
    expected = load_transformer(padded).encode(batch)
    np.testing.assert_allclose(load_encoder(spec).encode(batch), expected, rtol=0, atol=BOUND)


def test_text_with_the_id_of_the_fill_goes_in_padded_batches(sentence_model):
    directory = sentence_model("xlm-roberta")
    spec = spec_of(directory)
    batch = TokenBatch.from_lists([[0, 7, spec.pad_id, 9, 2], [0, 7, 9, 2]])
    padded = replace(spec, placement=replace(spec.placement, unpadded=False))
    expected = load_transformer(padded).encode(batch)
    np.testing.assert_allclose(load_encoder(spec).encode(batch), expected, rtol=0, atol=BOUND)


@pytest.mark.parametrize("architecture", sorted(CONFIGURATIONS.keys() - set(STREAMED)))
def test_what_cannot_be_streamed_is_padded_and_the_log_says_so_once(
    architecture, sentence_model, caplog
):
    spec = spec_of(sentence_model(architecture))
    backend = load.stream_backend(spec)
    assert isinstance(backend, TorchBackend)
    (said,) = (one.getMessage() for one in caplog.records if one.name.startswith("embedkit"))
    assert said.startswith("the device computes padded batches, as ")
    padded = replace(spec, placement=replace(spec.placement, unpadded=False))
    batch = tokens_of(spec, SENTENCES)
    same = load_encoder(padded).encode(batch)
    np.testing.assert_array_equal(load_encoder(spec).encode(batch), same)


def test_a_model_that_counts_the_tokens_of_a_stream_as_those_of_a_row_is_padded(tmp_path, caplog):
    """The rows that are tried have fewer tokens together than a row may have; streams have more."""
    tokenizer = make_tokenizer("wordpiece")
    tokenizer.save_pretrained(tmp_path)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, max_position_embeddings=512, **sizes, **ids
    )
    CLIPTextModel(config).save_pretrained(tmp_path)
    spec = spec_of(str(tmp_path), pooling="mean", max_tokens=24)
    assert isinstance(load.stream_backend(spec), TorchBackend)
    (said,) = (one.getMessage() for one in caplog.records if one.name.startswith("embedkit"))
    assert "Sequence length must be less than max_position_embeddings" in said


def failing(error: Exception) -> Any:
    def run(self: Any, batch: TokenBatch) -> Any:
        raise error

    return run


def test_a_card_that_cannot_run_the_kernel_computes_padded_batches(
    sentence_model, monkeypatch, caplog
):
    old = RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    monkeypatch.setattr(StreamBackend, "run", failing(old))
    assert isinstance(load.stream_backend(spec_of(sentence_model())), TorchBackend)
    assert "FlashAttention only supports Ampere GPUs or newer." in caplog.text


def test_a_device_that_gives_other_vectors_computes_padded_batches(
    sentence_model, monkeypatch, caplog
):
    right = StreamBackend.run
    monkeypatch.setattr(StreamBackend, "run", lambda self, batch: right(self, batch) * 1.01)
    assert isinstance(load.stream_backend(spec_of(sentence_model())), TorchBackend)
    assert "bert in float32, gives other vectors on a stream (relative distance 0.01" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.OutOfMemoryError(),
    ],
)
def test_a_lost_device_and_lack_of_memory_are_no_reasons_to_pad(error, sentence_model, monkeypatch):
    monkeypatch.setattr(StreamBackend, "run", failing(error))
    with pytest.raises(type(error)):
        load.stream_backend(spec_of(sentence_model()))
