"""LoRA adapters merged at load, against peft, whose own forward pass merges nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from running import records, tiny_job, write_jsonl
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from tiny_models import MAX_TOKENS, SENTENCES
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, query_config, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, EncoderError
from embedkit.search.query import encode_query
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

QUERY_VALUE = ["query", "value"]


def spec_of(directory: str | Path, **settings: Any) -> ModelSpec:
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32", "pooling": "cls"}
    return read_model(ModelConfig(model=str(directory), **(wanted | settings)))


def vectors_of(spec: ModelSpec) -> np.ndarray:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


def fails(directory: str | Path, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as raised:
        load_encoder(spec_of(directory))
    assert "\n" not in str(raised.value)


def edit(directory: Path, **changes: Any) -> None:
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def trained(model: Any, settings: dict[str, Any]) -> Any:
    """An adapter whose weights are not what training begins with."""
    model = get_peft_model(model, LoraConfig(**settings))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            scale = 0.3 + parameter.abs().mean().item() if "magnitude" in name else 0.0
            parameter.data += torch.randn_like(parameter) * 0.3 + scale
    return model.eval()


def hidden(model: Any, directory: str | Path) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    vectors = []
    for text in SENTENCES:
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").input_ids
        with torch.no_grad():
            output = model(input_ids=ids, output_hidden_states=True)
        vectors.append(output.hidden_states[-1][0, 0].numpy())
    return np.stack(vectors)


@pytest.fixture
def adapter(plain_model: Callable[[str], str], tmp_path: Path) -> Path:
    """The directory of a small adapter for a BERT model."""
    model = trained(
        AutoModel.from_pretrained(plain_model("bert")), {"r": 4, "target_modules": QUERY_VALUE}
    )
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


SETTINGS = {
    "plain": ("bert", {"r": 4, "lora_alpha": 12, "target_modules": QUERY_VALUE}),
    "a regular expression": ("bert", {"r": 4, "target_modules": r".*layer\.1\..*(query|dense)"}),
    "by the root": ("bert", {"r": 6, "use_rslora": True, "target_modules": QUERY_VALUE}),
    "patterns": (
        "bert",
        {
            "r": 4,
            "target_modules": QUERY_VALUE,
            "rank_pattern": {"value": 2},
            "alpha_pattern": {"layer.1.attention.self.query": 31, "value": 3},
        },
    ),
    "whole modules": (
        "bert",
        {"r": 4, "target_modules": QUERY_VALUE, "modules_to_save": ["LayerNorm"]},
    ),
    "embeddings": ("bert", {"r": 4, "target_modules": ["query", "word_embeddings"]}),
    "lengths": ("bert", {"r": 4, "target_modules": QUERY_VALUE, "use_dora": True}),
    "by input": ("gpt2", {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "by input, lengths": (
        "gpt2",
        {"r": 4, "target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True},
    ),
    "a decoder": ("qwen3", {"r": 4, "target_modules": "all-linear"}),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.few(4)
def test_merged_vectors_are_those_of_peft(name, plain_model, tmp_path):
    architecture, settings = SETTINGS[name]
    base = plain_model(architecture)
    trained(AutoModel.from_pretrained(base), settings).save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path).eval()
    expected = hidden(loaded, base)
    assert np.abs(expected - hidden(AutoModel.from_pretrained(base).eval(), base)).max() > 0.01
    found = vectors_of(spec_of(tmp_path, max_tokens=MAX_TOKENS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_an_onnx_file_takes_no_adapter(adapter):
    with pytest.raises(ConfigError, match="merged into safetensors, and not into an ONNX file"):
        spec_of(adapter, backend="onnx")


def test_another_tokenizer_is_held_against_that_of_the_adapted_model(adapter, plain_model):
    own = spec_of(adapter)
    assert spec_of(adapter, tokenizer=plain_model("bert")) == own
    with pytest.raises(ConfigError, match=r"of its \d+ tokens"):
        spec_of(adapter, tokenizer=plain_model("deberta-v3"))


def test_an_adapter_of_a_model_for_a_task(plain_model, tmp_path):
    """Names begin with that of the encoder in it, and what the head learned is nobody's."""
    base = plain_model("bert")
    settings = {"r": 4, "target_modules": [*QUERY_VALUE, "decoder"]}
    model = trained(AutoModelForMaskedLM.from_pretrained(base), settings)
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "adapter_model.safetensors").keys()
    assert any(name.startswith("base_model.model.bert.encoder") for name in names)
    assert any(name.startswith("base_model.model.cls.") for name in names)
    found = vectors_of(spec_of(tmp_path, max_tokens=MAX_TOKENS))
    np.testing.assert_allclose(found, hidden(model, base), rtol=0, atol=2e-5)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_as_sentence_transformers_saves_it(backend, sentence_model, tmp_path):
    directory = Path(sentence_model(prompts={"query": "one two "}))
    model = SentenceTransformer(str(directory), device="cpu")
    model.add_adapter(LoraConfig(r=4, target_modules=QUERY_VALUE))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.3
    model.save(str(tmp_path / "model"))
    assert not (tmp_path / "model" / "config.json").exists()
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(SENTENCES)
    spec = spec_of(tmp_path / "model", backend=backend, pooling=None)
    assert spec.tokenizer.directory == str(tmp_path / "model")
    assert dict(spec.tokenizer.prompts)["query"] == "one two "
    found = vectors_of(spec)
    np.testing.assert_allclose(found, expected, rtol=0, atol={"torch": 2e-5}.get(backend, 1e-4))
    assert np.abs(found - vectors_of(spec_of(directory, pooling=None))).max() > 0.01


def test_the_modules_of_its_model(sentence_model, tmp_path):
    """An adapter that peft saved alone is used as its model is: pooling, layers, prompts."""
    torch.manual_seed(1)
    directory = Path(sentence_model(dense=(Dense(32, 20),), prompts={"document": "one two "}))
    model = SentenceTransformer(str(directory), device="cpu")
    adapted = trained(model[0].auto_model, {"r": 4, "target_modules": QUERY_VALUE})
    adapted.save_pretrained(tmp_path)
    spec = spec_of(tmp_path, pooling=None, prompt_name="document")
    assert spec.identity.weights == (
        "base:model.safetensors",
        "base:2_Dense/model.safetensors",
        "adapter_model.safetensors",
    )
    expected = model.encode(SENTENCES, prompt_name="document")
    np.testing.assert_allclose(vectors_of(spec), expected, rtol=0, atol=2e-5)


def test_where_its_model_is(adapter, plain_model, tmp_path, monkeypatch):
    by_path = spec_of(adapter)
    assert by_path.identity.base == by_path.transformer == plain_model("bert")
    base = shutil.copytree(plain_model("bert"), tmp_path / "models" / "bert")
    for said in ("../models/bert", "models/bert"):
        edit(adapter, base_model_name_or_path=said)
        monkeypatch.chdir(tmp_path)
        spec = spec_of(adapter)
        assert spec.transformer == str(base)
        # What is where is no part of what vectors are.
        assert spec.vector_ingredients() == by_path.vector_ingredients()
        assert query_config(str(adapter), {**spec.description(), **DESCRIBED}).model == str(adapter)
    shutil.rmtree(base)
    fails(
        adapter, r"adapter_config\.json: the adapter is for the model 'models/bert', which is not"
    )
    edit(adapter, base_model_name_or_path="~nobody/bert")
    fails(adapter, "which is not found .*; write its directory to base_model_name_or_path")


DESCRIBED = {"max_tokens": 64, "normalized": False, "dimension": 32}


def test_its_model_on_the_hub(adapter, plain_model, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--house--model"
    shutil.copytree(plain_model("bert"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for revision in (None, "main", commit):
        edit(adapter, base_model_name_or_path="house/model", revision=revision)
        assert spec_of(adapter).transformer == str(repository / "snapshots" / commit)
    edit(adapter, revision="another")
    fails(adapter, "house/model@another: no such directory, not in the hub's cache")


def test_a_changed_adapter_is_another_model(adapter, plain_model):
    before = spec_of(adapter)
    assert "adapter" not in spec_of(plain_model("bert")).vector_ingredients()
    edit(adapter, lora_alpha=9)
    assert spec_of(adapter).vector_ingredients() != before.vector_ingredients()
    edit(adapter, lora_alpha=8)
    assert spec_of(adapter).vector_ingredients() == before.vector_ingredients()
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, file)
    assert spec_of(adapter).vector_ingredients() != before.vector_ingredients()
    with pytest.raises(EncoderError, match="the weights changed since the job was planned"):
        load_encoder(before)
    file.unlink()
    with pytest.raises(EncoderError, match=r"adapter_model\.safetensors: missing; the model must"):
        load_encoder(before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type: Input should be 'LORA', found 'IA3'"),
        ({"bias": "all"}, "bias: Input should be 'none', found 'all'"),
        ({"lora_bias": True}, "lora_bias is not supported; merge it into its model with peft's"),
        ({"target_parameters": ["w"]}, "target_parameters is not supported"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is not supported"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is not supported"),
        ({"of_a_later_release": {"a": 1}}, "of_a_later_release is not supported"),
        ({"init_lora_weights": "pissa"}, "pissa changes the model that the adapter is for; merge"),
        ({"alpha_pattern": {"(a+)+$": 3}}, "is no name but a regular expression; merge it"),
        ({"lora_alpha": -1}, "lora_alpha: Input should be greater than 0"),
        ({"base_model_name_or_path": ""}, "base_model_name_or_path: "),
        ({"base_model_name_or_path": None}, "base_model_name_or_path: "),
        (
            {"auto_mapping": {"parent_library": "transformers_modules.modeling"}},
            "for a class of transformers_modules.modeling, and no code from a model directory runs",
        ),
        ({"base_model_name_or_path": "../adapter"}, "which is an adapter itself; merge that"),
    ],
)
def test_adapters_that_are_not_supported(changes, message, adapter):
    edit(adapter, **changes)
    fails(adapter, f"adapter_config.json: .*{message.replace('(', '[(]')}")


def test_a_kind_of_adapter_that_is_not_lora(plain_model, tmp_path):
    model = AutoModel.from_pretrained(plain_model("bert"))
    get_peft_model(
        model, peft.IA3Config(target_modules=["key"], feedforward_modules=[])
    ).save_pretrained(tmp_path)
    fails(tmp_path, "peft_type: Input should be 'LORA', found 'IA3'")


def test_weights_of_an_adapter_that_are_not_there(adapter):
    file = adapter / "adapter_model.safetensors"
    file.rename(adapter / "adapter_model.bin")
    fails(adapter, r"adapter_model\.bin: a pickle could run code, .* with peft and save it again")
    (adapter / "adapter_model.bin").unlink()
    fails(adapter, r"adapter_model\.safetensors: missing, but adapter_config\.json says")
    file.write_bytes(b"nothing of the kind")
    fails(adapter, "not a whole safetensors file")


QUERY = "base_model.model.encoder.layer.0.attention.self.query.lora_"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora.query.down": torch.ones(2)}, "is not one of a LoRA adapter as peft saves them"),
        ({f"{QUERY}A.weight": None}, "query has not exactly the tensors of its kind"),
        ({f"{QUERY}magnitude_vector": torch.ones(32)}, r"query has not exactly .* \(see lengths\)"),
        ({f"{QUERY}A.weight": torch.ones(4, 31)}, r"query has shape \(32, 31\), but .* \(32, 32\)"),
        ({f"{QUERY}A.weight": torch.ones(4)}, r"query has shape \(32, 4\), but the model"),
        ({"base_model.model.encoder.norm.weight": torch.ones(4)}, r"encoder\.norm\.weight has sha"),
        (
            {"base_model.model.embeddings.word_embeddings.weight": torch.ones(9, 32)},
            r"word_embeddings\.weight has shape \(9, 32\), but the model has \(300, 32\)",
        ),
        (
            {
                "base_model.model.encoder.layer.9.output.dense.lora_A.weight": torch.ones(4, 64),
                "base_model.model.encoder.layer.9.output.dense.lora_B.weight": torch.ones(32, 4),
            },
            r"changes encoder\.layer\.9\.output\.dense, which is no module of the model",
        ),
    ],
)
def test_weights_that_belong_to_another_model(changes, message, adapter):
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file)
    fails(adapter, f"adapter_model.safetensors: .*{message}")


def test_an_adapter_of_a_head_alone(adapter):
    """Or of nothing: its vectors would be those of the model without it."""
    head = {"base_model.model.classifier.weight": torch.ones(2, 32)}
    for tensors in ({}, head):
        save_file(tensors, adapter / "adapter_model.safetensors")
        fails(adapter, "no tensor in it is for the encoder, so that nothing would be changed")


def test_search_takes_the_adapter_as_it_was(adapter, tmp_path):
    corpus = write_jsonl(tmp_path / "corpus.jsonl", records(12))
    run_job(tiny_job(str(adapter), corpus, tmp_path / "out"))
    expected = vectors_of(spec_of(adapter, pooling="mean", normalize=True))[2]
    found = encode_query(tmp_path / "out", SENTENCES[2])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    edit(adapter, lora_alpha=9)
    with pytest.raises(
        ConfigError, match=r"its adapter_config\.json does not say what it did when"
    ):
        encode_query(tmp_path / "out", SENTENCES[2])
