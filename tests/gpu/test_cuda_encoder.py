"""The torch backend on CUDA against the same model in float32 on the CPU."""

import numpy as np
import pytest
import torch
from tiny_models import SENTENCES

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

TEXTS = [f"{first} {second}" for first in SENTENCES for second in SENTENCES]


def embed(model, **settings):
    spec = read_model(ModelConfig(model=model, backend="torch", **settings))
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(TEXTS)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


@pytest.fixture(scope="module")
def exact(minilm):
    return embed(minilm, device="cpu", precision="float32")


def test_a_gpu_is_taken_where_there_is_one(minilm):
    spec = read_model(ModelConfig(model=minilm))
    assert (spec.placement.backend, spec.placement.device) == ("torch", "cuda")
    bf16 = torch.cuda.get_device_capability() >= (8, 0)
    assert spec.placement.precision == ("bfloat16" if bf16 else "float32")
    assert load_encoder(spec).device == torch.cuda.get_device_name()


def test_float32(minilm, exact):
    vectors = embed(minilm, device="cuda", precision="float32")
    np.testing.assert_allclose(vectors, exact, rtol=0, atol=2e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(precision, minilm, exact):
    vectors = embed(minilm, device="cuda", precision=precision)
    assert (vectors * exact).sum(axis=1).min() >= 0.9998
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_same_batch_gives_the_same_bytes(minilm):
    first = embed(minilm, device="cuda")
    assert embed(minilm, device="cuda").tobytes() == first.tobytes()


def test_memory_that_runs_out(minilm, exact):
    """A batch that cannot fit is halved until it does, and the vectors are the same."""
    spec = read_model(
        ModelConfig(model=minilm, device="cuda", precision="float32", batch_tokens=1 << 20)
    )
    encoder = load_encoder(spec)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(TEXTS * 40)
    batch = TokenBatch(ids, offsets)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_allocated() + (512 << 20)
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        vectors = encoder.encode(batch)
        assert torch.cuda.memory_stats()["num_ooms"] > 0, "the memory must have run out"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(vectors, np.tile(exact, (40, 1)), rtol=0, atol=2e-5)
