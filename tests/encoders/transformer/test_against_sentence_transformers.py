"""Vectors of tiny models against sentence-transformers and transformers themselves."""

from typing import Any

import numpy as np
import pytest
import torch
from onnx_models import exported
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from tiny_models import CONFIGURATIONS, MAX_TOKENS, SENTENCES

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.transformer.module_files import ACTIVATIONS
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

BACKENDS = {"torch": 2e-6, "openvino": 2e-5, "onnx": 2e-6}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def embed(spec: ModelSpec, texts: list[str]) -> np.ndarray:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


def spec_of(directory: str, backend: str = "torch", **settings: Any) -> ModelSpec:
    if backend == "onnx":
        exported(directory)
    return read_model(
        ModelConfig(
            model=directory,
            device="cpu",
            **{"backend": backend, "precision": "float32", "batch_tokens": 64} | settings,
        )
    )


def check(directory: str, backend: str = "torch", **settings: Any) -> None:
    oracle_settings = settings.pop("oracle", {})
    expected = SentenceTransformer(directory, device="cpu").encode(SENTENCES, **oracle_settings)
    vectors = embed(spec_of(directory, backend, **settings), SENTENCES)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=BACKENDS[backend] * scale)


@pytest.mark.parametrize("mode", MODES)
def test_pooling_modes(mode, sentence_model):
    check(sentence_model(pooling=mode, normalize=False))


@pytest.mark.parametrize(
    ("backend", "modes"),
    [
        ("torch", ("mean", "cls")),
        ("torch", ("lasttoken", "max", "weightedmean")),
        ("torch", MODES),
        ("openvino", MODES),
        ("onnx", MODES),
    ],
)
def test_pooling_modes_are_joined_in_the_models_order(modes, backend, sentence_model):
    check(sentence_model(pooling=modes, normalize=False), backend)


@pytest.mark.parametrize(
    ("backend", "modes"),
    [*(("torch", mode) for mode in MODES), ("openvino", MODES), ("onnx", MODES)],
)
@pytest.mark.few(3)
def test_prompts_are_left_out_of_the_pooling(modes, backend, sentence_model):
    directory = sentence_model(
        pooling=modes,
        include_prompt=False,
        normalize=False,
        prompts={"passage": "one two three: "},
    )
    settings = {"prompt_name": "passage"}
    check(directory, backend, oracle=settings, **settings)


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert"])
def test_prompts(architecture, sentence_model):
    directory = sentence_model(
        architecture,
        prompts={"query": "query: ", "passage": "passage: "},
        default_prompt_name="passage",
    )
    check(directory)
    check(directory, prompt_name="query", oracle={"prompt_name": "query"})
    check(directory, prompt="something else ", oracle={"prompt": "something else "})
    check(directory, prompt="", oracle={"prompt": ""})


def test_the_default_prompt_changes_the_vectors(sentence_model):
    directory = sentence_model(prompts={"passage": "passage: "}, default_prompt_name="passage")
    with_prompt = embed(spec_of(directory), SENTENCES)
    without = embed(spec_of(directory, prompt=""), SENTENCES)
    assert np.abs(with_prompt - without).max() > 1e-2


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.few(5)
def test_activations(activation, sentence_model):
    torch.manual_seed(1)
    function = getattr(torch.nn, activation)()
    check(sentence_model(dense=(Dense(32, 20, activation_function=function),), normalize=False))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dense_layers(backend, sentence_model):
    torch.manual_seed(1)
    layers = (Dense(32, 48, activation_function=torch.nn.GELU()), Dense(48, 20, bias=False))
    check(sentence_model(dense=layers), backend)


@pytest.mark.parametrize("width", [32, 20])
def test_dense_layers_with_a_residual(width, sentence_model):
    torch.manual_seed(1)
    check(sentence_model(dense=(Dense(32, width, use_residual=True),)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.few(2)
def test_matryoshka_truncation_normalizes_again(backend, sentence_model):
    directory = sentence_model()
    oracle = {"truncate_dim": 12, "normalize_embeddings": True}
    check(directory, backend, dimensions=12, oracle=oracle)
    vectors = embed(spec_of(directory, backend, dimensions=12), SENTENCES)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_matryoshka_truncation_of_a_model_without_normalization(sentence_model):
    check(sentence_model(normalize=False), dimensions=12, oracle={"truncate_dim": 12})


def test_normalization_on_and_off(sentence_model):
    check(sentence_model(normalize=False), normalize=True, oracle={"normalize_embeddings": True})
    directory = sentence_model(normalize=True)
    lengths = np.linalg.norm(embed(spec_of(directory, normalize=False), SENTENCES), axis=1)
    assert np.abs(lengths - 1).max() > 0.1


@pytest.mark.parametrize("max_tokens", [4, 9, 40])
def test_max_tokens(max_tokens, sentence_model):
    model = SentenceTransformer(sentence_model(), device="cpu")
    model.max_seq_length = max_tokens
    expected = model.encode(SENTENCES)
    vectors = embed(spec_of(sentence_model(), max_tokens=max_tokens), SENTENCES)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-6)


def test_lower_casing(sentence_model):
    directory = sentence_model("modernbert", do_lower_case=True)
    spec = spec_of(directory)
    (lower, upper) = embed(spec, ["all capitals", "ALL CAPITALS"])
    np.testing.assert_array_equal(lower, upper)
    check(directory)


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
def test_plain_models_against_transformers(architecture, plain_model):
    from transformers import AutoModel, AutoTokenizer

    directory = plain_model(architecture)
    model = AutoModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(
        SENTENCES, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
    expected = hidden[:, 0].numpy()
    spec = spec_of(directory, pooling="cls", max_tokens=MAX_TOKENS)
    vectors = embed(spec, SENTENCES)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.few(2)
def test_the_same_batch_gives_the_same_bytes(backend, sentence_model):
    spec = spec_of(sentence_model(), backend)
    encoder = load_encoder(spec)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES * 5)
    batch = TokenBatch(ids, offsets)
    few = batch.take(np.arange(7))
    first, first_few = encoder.encode(batch), encoder.encode(few)
    for _ in range(5):
        assert encoder.encode(batch).tobytes() == first.tobytes()
        assert encoder.encode(few).tobytes() == first_few.tobytes()
    assert load_encoder(spec).encode(batch).tobytes() == first.tobytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_come_back_in_their_order(backend, sentence_model):
    spec = spec_of(sentence_model(), backend)
    encoder = load_encoder(spec)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    batch = TokenBatch(ids, offsets)
    together = encoder.encode(batch)
    for row in range(len(batch)):
        alone = encoder.encode(batch.take(np.array([row])))
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("torch", "bfloat16"), ("torch", "float16"), ("openvino", "bfloat16")],
)
@pytest.mark.parametrize("architecture", CONFIGURATIONS)
@pytest.mark.few(8)
def test_half_precision(architecture, backend, precision, sentence_model, openvino_has_bf16):
    directory = sentence_model(architecture)
    if backend == "openvino" and not openvino_has_bf16(directory):
        return
    exact = embed(spec_of(directory), SENTENCES)
    half = embed(spec_of(directory, backend, precision=precision), SENTENCES)
    assert (half * exact).sum(axis=1).min() > 0.995
    np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_encode(backend, sentence_model):
    spec = spec_of(sentence_model(), backend)
    encoder = load_encoder(spec)
    nothing = TokenBatch(np.empty(0, np.int32), np.zeros(1, np.int32))
    assert encoder.encode(nothing).shape == (0, 32)
    assert encoder.dimension == 32
    empty_rows = TokenBatch(np.empty(0, np.int32), np.zeros(3, np.int32))
    assert encoder.encode(empty_rows).shape == (2, 32)
