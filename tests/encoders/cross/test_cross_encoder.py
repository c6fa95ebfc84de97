"""Scores of pairs, held against CrossEncoder of sentence-transformers."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from tiny_cross import PAIRS, change_json, save_cross_encoder
from tiny_models import save_transformer

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model, read_scorer
from embedkit.errors import ConfigError
from embedkit.tokens.pairs import load_row_tokenizer
from embedkit.vectors import TokenBatch


def read(directory, **settings):
    return read_scorer(
        ModelConfig(model=str(directory), **{"device": "cpu", "precision": "float32"} | settings)
    )


def batch_of(spec, pairs=PAIRS):
    tokens = load_row_tokenizer(spec.tokenizer).encode(*zip(*pairs, strict=True))
    batch = TokenBatch(tokens.input_ids, tokens.offsets, seconds=tokens.seconds)
    # As it travels to where an encoder lives.
    return TokenBatch.of_arrays(*batch.arrays())


def scores_of(spec, pairs=PAIRS):
    return load_encoder(spec).encode(batch_of(spec, pairs))


def expected(directory, pairs=PAIRS, **settings):
    found = CrossEncoder(str(directory), device="cpu", **settings).predict(list(pairs))
    return found.reshape(len(pairs), -1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Makes each tiny model once."""
    made = {}

    def make(architecture="bert", labels=1):
        key = architecture, labels
        if key not in made:
            directory = tmp_path_factory.mktemp(f"{architecture}-{labels}")
            made[key] = save_cross_encoder(directory, architecture, labels)
        return made[key]

    return make


@pytest.mark.parametrize(
    ("architecture", "labels"),
    [
        *itertools.product(["bert", "roberta", "deberta-v3", "modernbert"], [1, 3]),
        *(("xlm-roberta", 1), ("distilbert", 3), ("mpnet", 1)),
    ],
)
def test_scores_are_those_of_cross_encoder(models, architecture, labels):
    directory = models(architecture, labels)
    spec = read(directory)
    assert (spec.kind, spec.vectors.dimension, len(spec.labels)) == ("cross", labels, labels)
    np.testing.assert_allclose(scores_of(spec), expected(directory), rtol=0, atol=2e-5)


def test_a_pair_alone_has_the_score_that_it_has_among_others(models):
    spec = read(models())
    batch, encoder = batch_of(spec), load_encoder(spec)
    together = encoder.encode(batch)
    for place in (0, 3, 6):
        alone = encoder.encode(batch.take(np.array([place])))[0]
        np.testing.assert_allclose(alone, together[place], rtol=0, atol=2e-5)
    small = scores_of(read(models(), batch_tokens=40))
    np.testing.assert_allclose(small, together, rtol=0, atol=2e-5)


def test_token_types_count(models, monkeypatch):
    spec = read(models())
    assert spec.tokenizer.pairs.typed
    assert not read(models("roberta")).tokenizer.pairs.typed
    assert not read(models("modernbert")).tokenizer.pairs.typed
    typed = scores_of(spec)
    monkeypatch.setattr(
        "embedkit.encoders.transformer.torch_backend.token_types",
        lambda batch, width: np.zeros((len(batch), width), np.int64),
    )
    assert np.abs(scores_of(spec) - typed).max() > 1e-3


def test_a_tokenizer_that_tells_no_types_to_the_model_tells_none(models, tmp_path):
    """As of tokenizers that were saved without their class; CrossEncoder sends none either."""
    directory = save_cross_encoder(tmp_path / "m")
    names = ["input_ids", "attention_mask"]
    change_json(tmp_path / "m" / "tokenizer_config.json", model_input_names=names)
    spec = read(directory)
    assert not spec.tokenizer.pairs.typed
    np.testing.assert_allclose(scores_of(spec), expected(directory), rtol=0, atol=2e-5)


@pytest.mark.parametrize("most", [5, 7, 24])
def test_fewer_tokens_than_the_model_sees(models, most):
    found = scores_of(read(models(), max_tokens=most))
    np.testing.assert_allclose(found, expected(models(), max_length=most), rtol=0, atol=2e-5)


def test_a_tokenizer_without_a_limit_of_its_own(tmp_path):
    """Some models' positions begin behind the id of fill, so that two of them are of no use."""
    directory = save_cross_encoder(tmp_path / "m", "roberta")
    change_json(tmp_path / "m" / "tokenizer_config.json", model_max_length=10**30)
    spec = read(directory)
    assert spec.tokenizer.max_tokens == 64
    found = scores_of(spec)
    np.testing.assert_allclose(found, expected(directory, max_length=64), rtol=0, atol=2e-5)


def test_truncation_from_the_left(tmp_path):
    directory = save_cross_encoder(tmp_path / "m")
    change_json(tmp_path / "m" / "tokenizer_config.json", truncation_side="left")
    np.testing.assert_allclose(scores_of(read(directory)), expected(directory), atol=2e-5)


def save_as_cross_encoder(source, directory, **settings):
    CrossEncoder(source, device="cpu", **settings).save_pretrained(str(directory))
    return directory


@pytest.mark.parametrize(("name", "labels"), [("Identity", 1), ("Sigmoid", 3), ("Tanh", 1)])
def test_a_directory_that_cross_encoder_saved(models, tmp_path, name, labels):
    source = models("bert", labels)
    saved = save_as_cross_encoder(
        source, tmp_path / "saved", activation_fn=getattr(torch.nn, name)(), max_length=20
    )
    spec = read(saved)
    assert (spec.activation, spec.tokenizer.max_tokens) == (name, 20)
    np.testing.assert_allclose(scores_of(spec), expected(saved), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("said", "activation"),
    [
        ({}, "Sigmoid"),
        ({"sentence_transformers": {"version": "4.1.0"}}, "Sigmoid"),
        (
            {
                "sentence_transformers": {
                    "activation_fn": "torch.nn.modules.linear.Identity",
                    "version": "4.1.0",
                }
            },
            "Identity",
        ),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            "Identity",
        ),
    ],
)
def test_the_activation_that_config_json_names(tmp_path, said, activation):
    directory = save_cross_encoder(tmp_path / "m", **said)
    spec = read(directory)
    assert spec.activation == activation
    np.testing.assert_allclose(scores_of(spec), expected(directory), rtol=0, atol=2e-5)


def test_an_activation_of_other_code_is_refused(tmp_path):
    said = {"sentence_transformers": {"activation_fn": "custom.Activation"}}
    with pytest.raises(ConfigError, match=r"config.json: activation_fn: custom.Activation is not"):
        read(save_cross_encoder(tmp_path / "m", **said))


def test_what_is_no_cross_encoder_is_refused(models, tmp_path):
    plain = save_transformer(tmp_path / "plain", "bert")
    with pytest.raises(ConfigError, match=r"no cross-encoder: its config\.json names no archit"):
        read(plain)
    # A head that is not in the weights would be random.
    change_json(Path(plain) / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(ConfigError, match=r"the weights lack classifier\.bias and 1 more"):
        load_encoder(read(plain))


def test_a_head_of_the_directory_s_own_code_never_runs(tmp_path):
    """Of an encoder such a head is not loaded, and so no matter."""
    auto_map = {"AutoModelForSequenceClassification": "modeling.Ranker"}
    directory = save_cross_encoder(tmp_path / "m", auto_map=auto_map)
    read_model(ModelConfig(model=directory, pooling="mean"))
    with pytest.raises(ConfigError, match=r"auto_map names modeling.Ranker as AutoModelForSequen"):
        read(directory)
    spec = read(directory, ignore_auto_map=True)
    assert spec.description()["ignored_code"].endswith("modeling.Ranker")


@pytest.mark.parametrize("model_type", ["gpt2", "t5"])
def test_what_reads_from_left_to_right_is_refused(tmp_path, model_type):
    directory = Path(save_cross_encoder(tmp_path / "m"))
    said = {"model_type": model_type, "architectures": ["XForSequenceClassification"]}
    if model_type == "t5":
        said |= {"d_model": 32, "is_encoder_decoder": True}
    else:
        said |= {"n_embd": 32}
    (directory / "config.json").write_text(json.dumps(said | {"vocab_size": 300}))
    with pytest.raises(ConfigError, match=f"model type '{model_type}' is no cross-encoder"):
        read(directory)


def test_prompts_templates_and_other_modules_are_refused(models, tmp_path):
    saved = save_as_cross_encoder(models(), tmp_path / "saved")
    change_json(
        saved / "config_sentence_transformers.json", prompts={"q": "Q: "}, default_prompt_name="q"
    )
    with pytest.raises(ConfigError, match="default_prompt_name is 'q', a prompt before every"):
        read(saved)
    change_json(saved / "config_sentence_transformers.json", default_prompt_name=None)
    read(saved)
    module = {"type": "sentence_transformers.base.modules.dense.Dense", "path": "1_Dense"}
    listing = json.loads((saved / "modules.json").read_text())
    (saved / "modules.json").write_text(json.dumps([*listing, module | {"idx": 1, "name": "1"}]))
    with pytest.raises(ConfigError, match="modules Transformer, Dense; expected one Transformer"):
        read(saved)
    (saved / "modules.json").write_text(json.dumps(listing))
    change_json(saved / "tokenizer_config.json", chat_template="{{ messages }}")
    with pytest.raises(ConfigError, match="through the tokenizer's chat template"):
        read(saved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "mean"}, "pooling: scores are not pooled"),
        ({"tokenizer": "x"}, "tokenizer: a cross-encoder has its own"),
        ({"normalize": True}, "normalize: a score has no length"),
        ({"dimensions": 1}, "dimensions: a score has no components"),
        ({"prompt": "x"}, "prompt: a cross-encoder reads the query as it is"),
        ({"granularity": "token"}, "granularity: a score is of a whole pair"),
        ({"tokenizer": "x"}, "tokenizer: a cross-encoder has its own"),
        ({"layers": "-2"}, "layers: a cross-encoder scores by its last layer"),
        ({"backend": "openvino"}, "backend openvino runs no cross-encoders"),
        ({"precision": "float8"}, "precision float8 is not for cross-encoders"),
        ({"precision": "int8"}, "precision int8 is not for cross-encoders"),
        ({"max_tokens": 4}, "leaves no room for two texts"),
    ],
)
def test_settings_that_mean_nothing_for_scores_are_refused(models, settings, message):
    with pytest.raises(ConfigError, match=message):
        read(models(), **settings)


def test_vectors_of_a_classifier(models, tmp_path, caplog):
    """What CrossEncoder saved has none; of a plain directory they are what they were."""
    saved = save_as_cross_encoder(models(), tmp_path / "saved")
    config = ModelConfig(model=str(saved), pooling="mean")
    with pytest.raises(ConfigError, match="a cross-encoder, which scores pairs of texts and gives"):
        read_model(config)
    spec = read_model(ModelConfig(model=models(), pooling="mean"))
    assert spec.kind == "transformer"
    assert "embedkit rerank scores pairs with it" in caplog.text
    caplog.clear()
    read_model(ModelConfig(model=save_transformer(tmp_path / "plain", "bert"), pooling="mean"))
    assert not caplog.text


@pytest.mark.parametrize("architecture", ["bert", "roberta", "modernbert"])
def test_half_precision_is_near_and_its_scores_differ_all_the_same(models, architecture):
    exact = scores_of(read(models(architecture, 3)))
    half = scores_of(read(models(architecture, 3), precision="bfloat16"))
    assert 0 < np.abs(half - exact).max() < 0.3
    # What is computed in bfloat16 to the end has no more bits than eight.
    assert (half.view(np.int32) & 0xFFFF).any(axis=0).all()
