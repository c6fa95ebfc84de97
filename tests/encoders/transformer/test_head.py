"""Layers behind the pooling, in whatever order a model has them, as sentence-transformers does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm
from tiny_models import SENTENCES

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


def norm(width: int) -> LayerNorm:
    layer = LayerNorm(width)
    torch.nn.init.normal_(layer.norm.weight, mean=1)
    torch.nn.init.normal_(layer.norm.bias)
    return layer


def gelu(wide: int, narrow: int) -> Dense:
    return Dense(wide, narrow, activation_function=torch.nn.GELU())


HEADS = {
    "norm": lambda: (norm(32),),
    "norm, dense": lambda: (norm(32), gelu(32, 20)),
    "dense, norm, dropout": lambda: (gelu(32, 20), norm(20), Dropout(0.5)),
    "unit, dense": lambda: (Normalize(), gelu(32, 20)),
    "unit, norm, unit, dense": lambda: (Normalize(), norm(32), Normalize(), gelu(32, 12)),
    "dense, dense, unit": lambda: (gelu(32, 48), gelu(48, 20), Normalize()),
}


def spec_of(directory: str, **settings: str) -> ModelSpec:
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32"}
    return read_model(ModelConfig(model=directory, **(wanted | settings)))


def vectors_of(spec: ModelSpec) -> np.ndarray:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.few(4)
def test_layers_in_any_order(head, normalize, sentence_model):
    torch.manual_seed(1)
    directory = sentence_model(dense=HEADS[head](), normalize=normalize)
    expected = SentenceTransformer(directory, device="cpu").encode(SENTENCES)
    spec = spec_of(directory)
    assert spec.vectors.dimension == expected.shape[1]
    found = vectors_of(spec)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    lengths = np.linalg.norm(found, axis=1)
    assert (np.abs(lengths - 1).max() < 1e-6) == (normalize or head.endswith(", unit"))


def test_layers_on_other_backends(sentence_model):
    torch.manual_seed(1)
    directory = sentence_model(dense=HEADS["unit, norm, unit, dense"](), normalize=True)
    expected = SentenceTransformer(directory, device="cpu").encode(SENTENCES)
    np.testing.assert_allclose(
        vectors_of(spec_of(directory, backend="openvino")), expected, rtol=0, atol=1e-4
    )
    spec = spec_of(directory)
    on_stream = replace(spec, placement=replace(spec.placement, unpadded=True))
    np.testing.assert_allclose(vectors_of(on_stream), expected, rtol=0, atol=2e-5)


def test_each_layer_is_part_of_the_recipe(sentence_model):
    torch.manual_seed(1)
    recipes = set()
    for head in HEADS.values():
        spec = spec_of(sentence_model(dense=head(), normalize=True))
        recipes.add((spec.vector_ingredients()["dense"], spec.vectors.dimension))
    assert len(recipes) == len(HEADS)
    plain = spec_of(sentence_model(dense=(gelu(32, 20),)))
    assert plain.vector_ingredients()["dense"] == "2_Dense/model.safetensors:GELU:0"


def test_a_norm_of_another_width(sentence_model):
    directory = sentence_model(dense=(norm(32),))
    file = Path(directory, "2_LayerNorm", "config.json")
    file.write_text(json.dumps({"dimension": 31}))
    with pytest.raises(ConfigError, match=r"norm\.weight has shape \(32,\), but config\.json says"):
        spec_of(directory)
    with pytest.raises(ConfigError, match=r"model\.safetensors: takes 20 components, but gets 32"):
        spec_of(sentence_model(dense=(norm(20),)))
