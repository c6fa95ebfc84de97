"""Vectors of tokens, words and hidden layers against transformers' own, row by row."""

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from onnx_models import exported
from sentence_transformers.base.modules import Dense
from texts import topics_of_python
from tiny_models import CONFIGURATIONS, MAX_TOKENS, MORE, OTHERS
from transformers import AutoConfig

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.normalization import normalized
from embedkit.encoders.transformer import openvino
from embedkit.encoders.transformer.architecture import model_class
from embedkit.encoders.transformer.stream.backend import StreamBackend
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch, TokenSpans

STREAMED = ("bert", "distilbert", "roberta", "xlm-roberta", "modernbert", "gpt2", "qwen3")
ARCHITECTURES = [*CONFIGURATIONS, *OTHERS, *MORE]
POOLERS = {
    "first": lambda tokens: tokens[0],
    "last": lambda tokens: tokens[-1],
    "mean": lambda tokens: tokens.mean(axis=0),
    "max": lambda tokens: tokens.max(axis=0),
}
LAYERS = {
    "-1": lambda states: states[-1],
    "-2": lambda states: states[-2],
    "0": lambda states: states[0],
    "-2..-1:concat": lambda states: np.concatenate(states[-2:], axis=1),
    "0..2:sum": lambda states: states[0] + states[1] + states[2],
    "1..2:mean": lambda states: (states[1] + states[2]) / 2,
}
WAYS = [
    {"granularity": "token"},
    {"granularity": "token", "layers": "0"},
    {"granularity": "word", "word_pooling": "first", "layers": "-2"},
    {"granularity": "word", "word_pooling": "mean", "layers": "0..2:sum"},
    {"granularity": "word", "word_pooling": "last", "layers": "-2..-1:concat"},
    {"granularity": "word", "word_pooling": "max", "layers": "1..2:mean"},
    {"granularity": "document", "pooling": "mean+cls", "layers": "-2..-1:concat"},
]
"""Every granularity, pooling of words, and choice of layers."""


def rows() -> TokenBatch:
    """Returns 64 rows of which every 21st is the same, as texts of one token and of the most."""
    random = np.random.default_rng(7)
    lengths = [1, MAX_TOKENS, *random.integers(1, MAX_TOKENS + 1, size=19).tolist()]
    ids = [random.integers(5, 150, size=length).tolist() for length in lengths]
    return TokenBatch.from_lists((ids * 4)[:64])


def with_spans(batch: TokenBatch, granularity: str) -> TokenBatch:
    """Adds each row's tokens as spans, or its words, of which the last one overlaps and is long."""
    if granularity == "document":
        return batch
    random = np.random.default_rng(11)
    spans = []
    for length in batch.lengths.tolist():
        if granularity == "token":
            spans.append([(place, place + 1) for place in range(length)])
            continue
        cuts = np.flatnonzero(random.random(length) < 0.5).tolist()
        spans.append([*pairwise(cuts), (0, length)] if cuts else [])
    counts = [len(of_row) for of_row in spans]
    offsets = np.cumsum([0, *counts]).astype(np.int32)
    flat = np.array([span for of_row in spans for span in of_row], dtype=np.int32)
    both = TokenSpans(flat[:, 0].copy(), flat[:, 1].copy(), offsets)
    return TokenBatch(batch.input_ids, batch.offsets, both)


@lru_cache(maxsize=1)
def states_of(directory: str) -> list[list[np.ndarray]]:
    """Returns the hidden states of each row, computed alone."""
    config = AutoConfig.from_pretrained(directory)
    model = model_class(config, directory).from_pretrained(directory).eval()
    batch = rows()
    states = []
    for row in range(21):
        ids = batch.input_ids[batch.offsets[row] : batch.offsets[row + 1]].astype(np.int64)
        with torch.inference_mode():
            output = model(input_ids=torch.from_numpy(ids)[None], output_hidden_states=True)
        assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
        states.append([layer[0].numpy() for layer in output.hidden_states])
    return states


def expected(directory: str, batch: TokenBatch, way: dict[str, str]) -> np.ndarray:
    states = states_of(directory)
    vectors = []
    for row in range(len(batch)):
        tokens = LAYERS[way.get("layers", "-1")](states[row % 21])
        if batch.spans is None:
            vectors.append(np.concatenate([tokens.mean(axis=0), tokens[0]]))
            continue
        pool = POOLERS[way.get("word_pooling", "first")]
        spans = batch.spans.take(np.array([row]))
        both = zip(spans.starts, spans.ends, strict=True)
        vectors += [pool(tokens[start:end]) for start, end in both]
    return np.array(vectors)


def spec_of(directory: str, backend: str = "torch", **settings: Any):
    usual = {"precision": "float32", "batch_tokens": 128, "encoder_threads": 1}
    usual |= {"max_tokens": MAX_TOKENS, "device": "cpu", "backend": backend}
    return read_model(ModelConfig(model=directory, **usual | settings))


def check(encoder, directory: str, way: dict[str, str], tolerance: float) -> None:
    batch = with_spans(rows(), way["granularity"])
    wanted = expected(directory, batch, way)
    np.testing.assert_allclose(encoder.encode(batch), wanted, rtol=0, atol=tolerance)
    row = 3
    alone = batch.take(np.array([row]))
    first, last = (row, row + 1) if batch.spans is None else batch.spans.offsets[row : row + 2]
    np.testing.assert_allclose(encoder.encode(alone), wanted[first:last], rtol=0, atol=tolerance)


_SOON_CONVERTED = ("bert", "deberta-v3")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.few(6)
def test_torch(architecture, plain_model):
    directory = plain_model(architecture)
    for way in WAYS:
        check(load_encoder(spec_of(directory, **way)), directory, way, 2e-5)


def test_onnx(plain_model):
    directory = exported(plain_model("bert"))
    for way in (one for one in WAYS if "layers" not in one):
        check(load_encoder(spec_of(directory, "onnx", **way)), directory, way, 2e-5)
    for pooling in POOLERS:
        way = {"granularity": "word", "word_pooling": pooling}
        check(load_encoder(spec_of(directory, "onnx", **way)), directory, way, 2e-5)


@pytest.mark.parametrize(
    "architecture",
    [
        one if one in _SOON_CONVERTED else pytest.param(one, marks=pytest.mark.soak)
        for one in CONFIGURATIONS
    ],
)
def test_openvino(architecture, plain_model):
    """Packs where it has them, and padded batches."""
    directory = plain_model(architecture)
    for way in WAYS[3:4] if architecture != "bert" else WAYS:
        check(load_encoder(spec_of(directory, "openvino", **way)), directory, way, 1e-4)


@pytest.mark.parametrize("architecture", STREAMED)
@pytest.mark.few(3)
def test_stream(architecture, plain_model):
    """On the CPU, where it is computed by the same steps as on a GPU but for attention's kernel."""
    directory = plain_model(architecture)
    for way in WAYS[3:4] if architecture != "bert" else WAYS:
        spec = spec_of(directory, batch_tokens=512, **way)
        spec = replace(spec, placement=replace(spec.placement, unpadded=True))
        encoder = load_encoder(spec)
        assert isinstance(encoder._backend, StreamBackend)
        check(encoder, directory, way, 2e-5)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_spans_of_a_model_of_rows_are_as_rows(backend, sentence_model):
    """Pooled and put through all that comes after, as a chunk of a longer text is."""
    dense = (Dense(64, 24),)
    directory = sentence_model(pooling=("mean", "cls"), dense=dense)
    encoder = load_encoder(spec_of(directory, backend, max_tokens=None, dimensions=16))
    batch = rows()
    whole = TokenSpans(np.zeros(64, np.int32), batch.lengths, np.arange(65, dtype=np.int32))
    vectors = encoder.encode(replace(batch, spans=whole))
    assert vectors.shape == (64, 16)
    np.testing.assert_allclose(vectors, encoder.encode(batch), rtol=0, atol=2e-6)
    few = replace(batch, spans=TokenSpans(whole.starts, whole.starts + 1, whole.offsets))
    assert np.abs(encoder.encode(few) - vectors)[batch.lengths > 1].max(axis=1).min() > 1e-3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_openvino_compiles_at_load(monkeypatch, sentence_model):
    compiled = []
    monkeypatch.setattr(openvino, "_runner", lambda spec, of_spans: compiled.append(of_spans))
    of_rows = spec_of(sentence_model(), "openvino", max_tokens=None)
    in_windows = replace(of_rows, vectors=replace(of_rows.vectors, in_windows=True))
    of_tokens = replace(of_rows, vectors=replace(of_rows.vectors, of="token"))
    for spec in (of_rows, in_windows, of_tokens):
        openvino.OpenVinoBackend(spec)
    assert compiled == [False, True, True]


def test_components_of_token_vectors_are_cut_off(plain_model):
    directory = plain_model("bert")
    batch = with_spans(rows(), "token")
    whole = expected(directory, batch, {})[:, :5]
    spec = spec_of(directory, granularity="token", dimensions=5)
    np.testing.assert_allclose(load_encoder(spec).encode(batch), whole, rtol=0, atol=2e-5)
    spec = spec_of(directory, granularity="token", dimensions=5, normalize=True)
    unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(load_encoder(spec).encode(batch), unit, rtol=0, atol=2e-5)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_the_same_batch_gives_the_same_bytes(backend, plain_model):
    spec = spec_of(plain_model("bert"), backend, granularity="word", encoder_threads=2)
    batch = with_spans(rows(), "word")
    encoder = load_encoder(spec)
    first = encoder.encode(batch)
    for _ in range(3):
        assert encoder.encode(batch).tobytes() == first.tobytes()
    np.testing.assert_array_equal(load_encoder(spec).encode(batch), first)


def test_half_precision(minilm, openvino_has_bf16):
    """Token vectors of a real model keep their direction, in packs and padded batches."""
    if not openvino_has_bf16(minilm):
        return
    settings = {"granularity": "token", "max_tokens": None, "batch_tokens": 1_024}
    ids, offsets, _ = load_tokenizer(spec_of(minilm).tokenizer).encode(topics_of_python()[:40])
    batch = with_spans(TokenBatch(ids, offsets), "token")
    exact = normalized(load_encoder(spec_of(minilm, **settings)).encode(batch))
    half = spec_of(minilm, "openvino", precision="bfloat16", **settings)
    cosines = (normalized(load_encoder(half).encode(batch)) * exact).sum(axis=1)
    # 0.99992 and 0.999975.
    assert cosines.min() > 0.9998
    assert cosines.mean() > 0.99995
