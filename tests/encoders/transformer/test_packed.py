"""Rows in packs get the vectors that they get alone: a row alone is padded, never packed."""

from typing import Any

import numpy as np
import pytest
from texts import topics_of_python
from tiny_models import CONFIGURATIONS, SENTENCES

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.transformer.batching import token_batches
from embedkit.encoders.transformer.packing import packs
from embedkit.encoders.transformer.spec import PACKED_ARCHITECTURES
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


def spec_of(directory: str, **settings: Any) -> ModelSpec:
    settings = {"backend": "openvino", "precision": "float32", "batch_tokens": 64} | settings
    return read_model(ModelConfig(model=directory, device="cpu", **settings))


def tokens_of(spec: ModelSpec, texts: list[str]) -> TokenBatch:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts)
    return TokenBatch(ids, offsets)


def packed_rows(spec: ModelSpec, batch: TokenBatch) -> int:
    shape = spec.pack_shape
    return 0 if shape is None else len(batch) - len(packs(batch, shape, spec.pad_id)[1])


def alone(encoder: Any, batch: TokenBatch) -> np.ndarray:
    return np.concatenate(
        [encoder.encode(batch.take(np.array([row]))) for row in range(len(batch))]
    )


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [*((name, "mean") for name in sorted(PACKED_ARCHITECTURES)), ("bert", "cls")],
)
@pytest.mark.few(3)
def test_rows_in_packs_against_rows_alone(architecture, pooling, sentence_model):
    spec = spec_of(sentence_model(architecture, pooling=pooling, normalize=False))
    batch = tokens_of(spec, SENTENCES * 2)
    assert packed_rows(spec, batch) >= 10
    assert packed_rows(spec, batch.take(np.array([0]))) == 0
    encoder = load_encoder(spec)
    expected = np.tile(alone(encoder, batch.take(np.arange(len(SENTENCES)))), (2, 1))
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(encoder.encode(batch), expected, rtol=0, atol=2e-6 * scale)


def test_rows_with_the_fill_among_their_tokens(sentence_model):
    spec = spec_of(sentence_model("xlm-roberta"))
    batch = tokens_of(spec, SENTENCES)
    batch.input_ids[batch.offsets[:-1] + 1] = spec.pad_id
    encoder = load_encoder(spec)
    np.testing.assert_allclose(encoder.encode(batch), alone(encoder, batch), rtol=0, atol=2e-6)


def test_matryoshka_truncation_of_packed_rows(sentence_model):
    spec = spec_of(sentence_model(), dimensions=12)
    batch = tokens_of(spec, SENTENCES)
    assert packed_rows(spec, batch) >= 5
    encoder = load_encoder(spec)
    np.testing.assert_allclose(encoder.encode(batch), alone(encoder, batch), rtol=0, atol=2e-6)


def test_what_cannot_be_packed(sentence_model):
    models = {name: spec_of(sentence_model(name)).architecture for name in CONFIGURATIONS}
    packable = {name for name in models if spec_of(sentence_model(name)).pack_shape}
    assert packable == {"bert", "distilbert", "mpnet", "roberta", "xlm-roberta"}
    for pooling in ("max", "lasttoken", ("mean", "cls")):
        assert spec_of(sentence_model(pooling=pooling)).pack_shape is None
    prompts = {"include_prompt": False, "prompts": {"passage": "one two three: "}}
    spec = spec_of(sentence_model(**prompts), prompt_name="passage")
    assert spec.prompt_length > 0
    assert spec.pack_shape is None


def test_packs_keep_to_the_token_budget_and_the_models_maximum(sentence_model, minilm):
    shape = spec_of(sentence_model()).pack_shape
    assert (shape.lines, shape.width) == (2, 24)
    shape = spec_of(sentence_model(), batch_tokens=24).pack_shape
    assert (shape.lines, shape.width) == (1, 24)
    # A line would be more than may be computed at once, as it is where rows come alone.
    assert spec_of(sentence_model(), batch_tokens=23).pack_shape is None
    assert spec_of(sentence_model()).one_by_one().pack_shape is None
    shape = spec_of(minilm, batch_tokens=None).pack_shape
    assert (shape.lines, shape.width) == (4, 256)


def test_the_fill_of_packs_and_of_padded_rows_is_counted(sentence_model):
    spec = spec_of(sentence_model())
    batch = tokens_of(spec, SENTENCES * 2)
    shape = spec.pack_shape
    whole, left = packs(batch, shape, spec.pad_id)
    padded = sum(
        len(rows) * int(batch.lengths[left][rows].max())
        for rows in token_batches(batch.lengths[left], spec.placement.batch_tokens)
    )
    encoder = load_encoder(spec)
    assert spec.mixed_calls
    before = encoder.computed_tokens
    encoder.encode(batch)
    computed = encoder.computed_tokens - before
    assert computed == len(list(whole)) * shape.lines * shape.width + padded
    assert computed > len(batch.input_ids)


def test_half_precision_loses_no_more_in_packs_than_in_padded_batches(minilm, openvino_has_bf16):
    if not openvino_has_bf16(minilm):
        return
    texts = [text[:1200] for text in topics_of_python() if len(text) > 600]
    spec = spec_of(minilm, precision="bfloat16", batch_tokens=1024)
    batch = tokens_of(spec, texts)
    batch = batch.take(next(packs(batch, spec.pack_shape, spec.pad_id)[0]).rows)
    assert packed_rows(spec, batch) == len(batch)
    exact = load_encoder(spec_of(minilm, backend="torch")).encode(batch)
    losses = 1 - (load_encoder(spec).encode(batch) * exact).sum(axis=1)
    # 1.5e-5 in padded batches; 3.3e-5 where the residual stream is bfloat16 as well.
    assert losses.mean() < 2.2e-5
