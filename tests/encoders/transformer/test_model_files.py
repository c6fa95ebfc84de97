"""What is read from a model directory, and what a job may ask of it."""

import hashlib
import json
import logging
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sentence_transformers.base.modules import Dense
from transformers import AutoTokenizer, CodeGenConfig, CodeGenModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.spec import VectorSpec
from embedkit.encoders.transformer import placement
from embedkit.encoders.transformer.kind import TransformerKind
from embedkit.errors import ConfigError
from embedkit.tokens.span_rules import SpanRules

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def read(directory, **settings):
    return read_model(ModelConfig(model=str(directory), **{"device": "cpu"} | settings))


def fails(directory, match, **settings):
    with pytest.raises(ConfigError, match=match) as raised:
        read(directory, **settings)
    assert "\n" not in str(raised.value)


def edit(directory, name, **changes):
    file = Path(directory) / name
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | changes))


def test_the_old_layout(minilm):
    spec = read(minilm)
    assert spec.identity.weights_hash == MINILM_SHA256
    assert (spec.pooling, spec.vectors.normalize, spec.vectors.dimension) == (("mean",), True, 384)
    assert (spec.tokenizer.max_tokens, spec.tokenizer.prompt) == (256, "")
    assert (spec.architecture, spec.vectors.metric) == ("bert", "cosine")
    assert spec.identity.revision is None


def test_the_new_layout(sentence_model):
    directory = sentence_model(
        pooling=("mean", "cls"),
        dense=(Dense(64, 24),),
        include_prompt=False,
        prompts={"query": "query: ", "passage": "one two "},
        default_prompt_name="passage",
        similarity_fn_name="dot",
        truncate_dim=16,
    )
    spec = read(directory)
    assert spec.pooling == ("mean", "cls")
    assert spec.vectors.dimension == 16
    assert spec.vectors.metric == "dot"
    assert spec.tokenizer.prompt == "one two "
    assert spec.prompt_length > 2
    assert dict(spec.tokenizer.prompts)["query"] == "query: "
    assert spec.tokenizer.max_tokens == 24
    (layer,) = spec.dense
    assert (layer.in_features, layer.out_features, layer.activation) == (64, 24, "Tanh")
    assert spec.identity.weights == ("model.safetensors", "2_Dense/model.safetensors")


def test_old_pooling_flags_are_joined_in_their_order(sentence_model):
    directory = sentence_model()
    flags = {"pooling_mode_lasttoken": True, "pooling_mode_max_tokens": True}
    file = Path(directory, "1_Pooling", "config.json")
    file.write_text(json.dumps({"word_embedding_dimension": 32, **flags}))
    assert read(directory).pooling == ("max", "lasttoken")
    file.write_text(json.dumps({"word_embedding_dimension": 32}))
    assert read(directory).pooling == ("mean",)


def test_maximum_length(sentence_model, plain_model):
    assert read(sentence_model(max_tokens=17)).tokenizer.max_tokens == 17
    assert read(plain_model("bert"), pooling="mean").tokenizer.max_tokens == 64
    # 66 positions, of which the ones up to the padding id are never used
    assert read(plain_model("xlm-roberta"), pooling="mean").tokenizer.max_tokens == 64
    assert read(plain_model("bert"), pooling="mean", max_tokens=5).tokenizer.max_tokens == 5
    fails(plain_model("bert"), "max_tokens is 65, but .* 64 positions", pooling="m", max_tokens=65)
    fails(plain_model("mpnet"), "max_tokens is 65", pooling="mean", max_tokens=65)
    relative = read(plain_model("deberta-v3"), pooling="mean", max_tokens=500)
    assert relative.tokenizer.max_tokens == 500


def test_a_model_without_any_maximum_length(plain_model, tmp_path):
    directory = shutil.copytree(plain_model("t5"), tmp_path / "model")
    edit(directory, "tokenizer_config.json", model_max_length=int(1e30))
    fails(directory, "give max_tokens", pooling="mean")
    assert read(directory, pooling="mean", max_tokens=9).tokenizer.max_tokens == 9


def test_a_configuration_without_an_id_of_fill(plain_model, tmp_path):
    """Those of several architectures have none, where others have one that is null."""
    tokenizer = AutoTokenizer.from_pretrained(plain_model("gpt2"))
    tokenizer.save_pretrained(tmp_path)
    config = CodeGenConfig(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, rotary_dim=8, n_positions=64
    )
    assert not hasattr(config, "pad_token_id")
    CodeGenModel(config).save_pretrained(tmp_path)
    assert read(tmp_path, pooling="mean", max_tokens=64).tokenizer.max_tokens == 64


def test_pooling_of_a_plain_model_must_be_given(plain_model):
    fails(plain_model("bert"), "names no pooling; give one, of cls, max, mean")
    fails(plain_model("bert"), "pooling 'median' is unknown", pooling="median")
    assert read(plain_model("bert"), pooling="cls+mean").pooling == ("cls", "mean")


def test_vectors_of_tokens_and_words(sentence_model, plain_model):
    """They need no pooling, and get none of what is made for whole texts."""
    directory = sentence_model(pooling=("mean", "cls"), dense=(Dense(64, 24),), truncate_dim=16)
    spec = read(directory, granularity="token", special_tokens=True, word_pooling="max")
    assert spec.vectors == VectorSpec(32, False, "cosine", "token", "first")
    assert (spec.pooling, spec.dense, spec.identity.weights) == ((), (), ("model.safetensors",))
    assert spec.tokenizer.spans == SpanRules("token", special_tokens=True)
    settings = {"word_pattern": "[a-z]+", "words": "face,bat,face", "word_pooling": "max"}
    spec = read(directory, granularity="word", normalize=True, dimensions=8, **settings)
    assert spec.vectors == VectorSpec(8, True, "cosine", "word", "max")
    assert spec.tokenizer.spans == SpanRules("word", "[a-z]+", ("bat", "face"))
    assert read(plain_model("bert"), granularity="word").tokenizer.spans == SpanRules("word")
    whole = read(directory, granularity="document")
    assert whole == read(directory)
    assert (whole.tokenizer.spans, whole.vectors.of) == (None, "row")


def test_hidden_layers(sentence_model, plain_model):
    """Equal layers are one recipe, and the last one is none of its own."""
    usual = read(sentence_model())
    assert read(usual.identity.directory, layers="2") == usual
    assert "layers" not in usual.vector_ingredients()
    one, same = (read(usual.identity.directory, layers=given) for given in ("-2", "1"))
    assert one == same
    assert one.vector_ingredients()["layers"] == "1" == one.description()["layers"]
    joined = read(plain_model("bert"), pooling="cls+mean", layers="-2..-1:concat")
    assert (joined.vectors.dimension, joined.vector_ingredients()["layers"]) == (128, "1..2:concat")
    tokens = read(plain_model("bert"), granularity="token", layers="0..2:concat", dimensions=70)
    assert tokens.vectors.dimension == 70
    fails(plain_model("t5"), "has 2 layers", pooling="mean", layers="-4", max_tokens=9)
    dense = sentence_model(dense=(Dense(32, 24),))
    assert read(dense, layers="0..2:sum").vectors.dimension == 24
    fails(dense, r"layers is 0\.\.2:concat, but dense layers of .* take 32", layers="0..2:concat")


def test_queries_are_made_of_the_same_layers(sentence_model):
    spec = read(sentence_model(), layers="-2")
    described = {"max_tokens": 9, "normalized": True, "dimension": 32, **spec.description()}
    config = TransformerKind().query_config(spec.identity.directory, described)
    assert read_model(config).layers == spec.layers
    del described["layers"]
    assert read_model(TransformerKind().query_config(config.model, described)).layers is None


def test_pooling_of_a_sentence_model_stands(sentence_model):
    assert read(sentence_model(), pooling="mean").pooling == ("mean",)
    fails(sentence_model(), "pooling is cls, but .* is made for mean", pooling="cls")


def test_prompts(sentence_model, caplog):
    directory = sentence_model(prompts={"passage": "passage: "})
    assert read(directory, prompt_name="passage").tokenizer.prompt == "passage: "
    assert read(directory, prompt="mine: ").tokenizer.prompt == "mine: "
    fails(directory, "take one of them", prompt="mine: ", prompt_name="passage")
    fails(
        directory, "no prompt named 'passages'; expected one of document, p", prompt_name="passages"
    )
    with caplog.at_level(logging.WARNING):
        assert read(directory).tokenizer.prompt == ""
    assert "knows the prompts passage and uses none" in caplog.text


def test_dimensions(minilm):
    assert read(minilm, dimensions=128).vectors.dimension == 128
    fails(minilm, "dimensions is 385, but vectors of .* have 384", dimensions=385)


def test_where_the_model_runs(minilm, bf16_units):
    import torch

    spec = read(minilm)
    expected = ("openvino", "cpu", "bfloat16" if bf16_units else "float32")
    assert (spec.placement.backend, spec.placement.device, spec.placement.precision) == expected
    assert read(minilm, backend="torch").placement.backend == "torch"
    assert read(minilm, precision="float16").placement.backend == "torch"
    assert read(minilm, precision="float32").placement.precision == "float32"
    fails(minilm, "openvino has no float16", backend="openvino", precision="float16")
    fails(minilm, "backend openvino runs on cpu", backend="openvino", device="cuda")
    if not torch.cuda.is_available():
        fails(minilm, "device is cuda, but torch finds no CUDA device", device="cuda")
        assert read(minilm, device="auto").placement.device == "cpu"


def test_openvino_is_chosen_only_where_it_is_installed_and_tried(minilm, monkeypatch):
    monkeypatch.setattr(placement, "OPENVINO_ARCHITECTURES", frozenset())
    assert read(minilm).placement.backend == "torch"
    assert read(minilm, backend="openvino").placement.backend == "openvino"
    monkeypatch.undo()
    monkeypatch.setattr(placement, "_openvino_is_installed", lambda: False)
    assert read(minilm).placement.backend == "torch"
    fails(minilm, r"install openvino, which is the extra openvino of", backend="openvino")


def test_ingredients_change_with_what_changes_vectors(sentence_model, tmp_path):
    directory = sentence_model(prompts={"query": "query: "})
    # Named, as what `auto` stands for depends on the CPU.
    placement = {"backend": "torch", "precision": "float32"}
    spec = read(directory, **placement)
    base = spec.vector_ingredients()
    for settings in (
        {"prompt": "x "},
        {"max_tokens": 7},
        {"normalize": False},
        {"dimensions": 8},
        {"backend": "openvino"},
        {"precision": "bfloat16"},
        {"batch_tokens": 77},
    ):
        changed = read(directory, **(placement | settings))
        assert changed.vector_ingredients() != base, settings
    elsewhere = shutil.copytree(directory, tmp_path / "elsewhere")
    assert read(elsewhere, encoder_threads=1, **placement).vector_ingredients() == base
    json.dumps(base)
    edit(elsewhere, "tokenizer_config.json", cls_token="[SEP]")
    assert read(elsewhere, **placement).vector_ingredients() != base
    lower = replace(spec, tokenizer=replace(spec.tokenizer, lower_case=True))
    assert lower.vector_ingredients() != base


def test_weights_of_several_files_have_one_hash(sentence_model):
    directory = Path(sentence_model(dense=(Dense(32, 8),)))
    first = read(directory).identity.weights_hash
    names = ["2_Dense/model.safetensors", "model.safetensors"]
    lines = [f"{n} {hashlib.sha256((directory / n).read_bytes()).hexdigest()}\n" for n in names]
    assert first == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_spec_travels(minilm):
    spec = read(minilm)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert len(pickle.dumps(spec)) < 5_000
    assert hash(spec) == hash(read(minilm))


@pytest.mark.soak
def test_reading_says_nothing(minilm):
    code = (
        "from embedkit.config import ModelConfig\n"
        "from embedkit.encoders.kinds import read_model\n"
        "from embedkit.encoders.kinds import load_encoder\n"
        f"load_encoder(read_model(ModelConfig(model={minilm!r}, device='cpu')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_hub_ids_that_are_not_in_the_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    fails("nobody/nothing@main", "nobody/nothing@main: no such directory, not in the hub's cache")
    fails("./nowhere", "no such directory, and not a hub id")
    fails(tmp_path / "nowhere", "no such directory, and not a hub id")


def test_a_hub_id_in_the_cache_is_pinned_to_its_commit(monkeypatch, tmp_path, minilm):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--house--model"
    shutil.copytree(minilm, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("house/model", "house/model@main", f"house/model@{commit}"):
        spec = read(name)
        assert (spec.identity.revision, spec.identity.weights_hash) == (commit, MINILM_SHA256)
        assert spec.identity.model_id == name
    fails("house/model@another", "not in the hub's cache")
