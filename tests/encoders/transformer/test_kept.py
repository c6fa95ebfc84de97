"""What is kept of a model: the same as made now, and only as long as nothing has changed."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import CONFIGURATIONS, SENTENCES
from transformers import AutoModel

from embedkit.caches import CACHE_VARIABLE
from embedkit.config import JobConfig, ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.transformer import kept_model, kept_networks
from embedkit.errors import ConfigError, EncoderError
from embedkit.tokens import tokenization
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own, for which no file is too new."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("embedkit.caches._SETTLED_SECONDS", -60)
    return tmp_path / "cache"


@pytest.fixture
def own(tiny_model, tmp_path) -> Path:
    """A model directory that the test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def kept(cache: Path, topic: str) -> list[Path]:
    return sorted((cache / topic).glob("*"))


def config(directory: str | Path, **settings) -> ModelConfig:
    settings = {"backend": "openvino", "precision": "float32", "device": "cpu"} | settings
    return ModelConfig(model=str(directory), **settings)


def never(*_, **__):
    raise AssertionError("made anew")


def tokens_of(spec) -> TokenBatch:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES * 2)
    return TokenBatch(ids, offsets)


@pytest.mark.parametrize("architecture", sorted(CONFIGURATIONS))
@pytest.mark.few(4)
def test_a_tokenizer_is_what_it_was(architecture, sentence_model, cache, monkeypatch):
    spec = read_model(config(sentence_model(architecture), backend="torch")).tokenizer
    shutil.rmtree(cache)
    made = load_tokenizer(spec)
    monkeypatch.setattr(tokenization, "read_tokenizer", never)
    found = load_tokenizer(spec)
    for one, other in zip(made.encode(SENTENCES), found.encode(SENTENCES), strict=True):
        assert np.array_equal(one, other)
    for name in ("pad_id", "max_content_tokens", "truncate_left", "prompt_length"):
        assert getattr(made, name) == getattr(found, name)
    assert made.tokenizer.to_str() == found.tokenizer.to_str()
    assert made.tokenizer.encode_special_tokens == found.tokenizer.encode_special_tokens


def test_a_tokenizer_that_reads_special_tokens_as_text(own, monkeypatch):
    file = own / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"split_special_tokens": True}))
    spec = read_model(config(own, backend="torch", pooling="mean")).tokenizer
    made = load_tokenizer(spec)
    assert made.tokenizer.encode_special_tokens
    monkeypatch.setattr(tokenization, "read_tokenizer", never)
    assert load_tokenizer(spec).tokenizer.encode_special_tokens


@pytest.mark.parametrize("architecture", sorted(CONFIGURATIONS))
@pytest.mark.few(4)
def test_a_model_is_what_it_was(architecture, sentence_model, monkeypatch):
    wanted = config(sentence_model(architecture), backend="torch", max_tokens=9)
    made = read_model(wanted)
    monkeypatch.setattr("embedkit.encoders.transformer.model_files._read", never)
    assert read_model(wanted) == made
    # Where it runs, and what else a job is, are no part of it.
    others = {"batch_tokens": 7, "inputs": ("other",), "output": "another"}
    job = JobConfig(**wanted.model_dump() | others)
    assert replace(read_model(job), placement=made.placement) == made
    assert read_model(job).placement.batch_tokens == 7
    with pytest.raises(AssertionError, match="made anew"):
        read_model(wanted.model_copy(update={"max_tokens": 8}))


def test_what_is_said_of_a_model_is_said_each_time(own, caplog, monkeypatch):
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    ]
    (own / "modules.json").write_text(json.dumps(listed))
    prompts = {"prompts": {"query": "q: ", "passage": "p: "}}
    (own / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    wanted = config(own, pooling="mean")
    with caplog.at_level(logging.INFO, "embedkit"):
        read_model(wanted)
        first = [(one.name, one.levelno, one.getMessage()) for one in caplog.records]
        caplog.clear()
        monkeypatch.setattr("embedkit.encoders.transformer.model_files._read", never)
        read_model(wanted)
    assert [(one.name, one.levelno, one.getMessage()) for one in caplog.records] == first
    assert any("knows the prompts passage, query" in line for _, _, line in first)


def test_a_model_that_cannot_be_read_is_not_kept(own, cache):
    (own / "config.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"config\.json"):
            read_model(config(own, pooling="mean"))
    assert not kept(cache, "models")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_changed_file_makes_another_model(own, name, monkeypatch):
    wanted = config(own, pooling="mean")
    before = read_model(wanted)
    content, state = (own / name).read_bytes(), (own / name).stat()
    if name == "model.safetensors":
        changed = content[:-1] + bytes([content[-1] ^ 1])
    else:
        changed = content.replace(b"{", b"{ ", 1)
    (own / name).write_bytes(changed)
    os.utime(own / name, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert read_model(wanted).identity != before.identity


def test_networks_give_the_same_bytes_as_those_made_now(sentence_model, cache, monkeypatch):
    spec = read_model(config(sentence_model("bert"), batch_tokens=64))
    assert spec.pack_shape is not None
    batch = tokens_of(spec)
    made = load_encoder(spec).encode(batch)
    by_torch = read_model(config(spec.identity.directory, backend="torch"))
    assert np.abs(load_encoder(by_torch).encode(batch) - made).max() < 1e-5
    assert len(kept(cache, "networks")) == 2
    monkeypatch.setattr("embedkit.encoders.transformer.openvino_making.made_runner", never)
    assert load_encoder(spec).encode(batch).tobytes() == made.tobytes()
    # Those for rows that come alone are the ones for padded batches.
    alone = load_encoder(spec.one_by_one()).encode(batch)
    assert np.abs(alone - made).max() < 1e-5


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[: len(content) // 2], lambda content: content[:-1] + b"\0\0"],
    ids=["half", "other"],
)
def test_damaged_networks_are_made_anew(sentence_model, cache, damage):
    spec = read_model(config(sentence_model("bert"), batch_tokens=64))
    batch = tokens_of(spec)
    made = load_encoder(spec).encode(batch)
    for file in kept(cache, "networks"):
        file.write_bytes(damage(file.read_bytes()))
    assert load_encoder(spec).encode(batch).tobytes() == made.tobytes()
    assert kept_networks.kept_networks(spec) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"processor_abilities": lambda: "another"},
        {"code_state": lambda *_: {"openvino": "2000.1"}},
    ],
    ids=["processor", "library"],
)
def test_networks_of_another_processor_or_library_are_not_used(
    sentence_model, changed, monkeypatch
):
    spec = read_model(config(sentence_model("bert"), batch_tokens=64))
    load_encoder(spec)
    assert kept_networks.kept_networks(spec) is not None
    for name, value in changed.items():
        monkeypatch.setattr(kept_networks, name, value)
    assert kept_networks.kept_networks(spec) is None


def test_other_instructions_than_those_it_was_tried_with(sentence_model, monkeypatch):
    spec = read_model(config(sentence_model("bert"), batch_tokens=64))
    load_encoder(spec)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert kept_networks.kept_networks(spec) is None


@pytest.mark.parametrize("settings", [{"layers": "-2"}, {"pooling": "cls"}, {"dimensions": 8}])
def test_networks_that_compute_something_else(own, settings):
    wanted = {"pooling": "mean"} | settings
    load_encoder(read_model(config(own, pooling="mean")))
    assert kept_networks.kept_networks(read_model(config(own, pooling="mean"))) is not None
    assert kept_networks.kept_networks(read_model(config(own, **wanted))) is None


def test_networks_of_other_weights_are_not_used(own):
    spec = read_model(config(own, pooling="mean"))
    load_encoder(spec)
    file = own / "model.safetensors"
    tensors = load_file(file)
    save_file({name: one + 0.01 for name, one in tensors.items()}, file, {"format": "pt"})
    other = read_model(config(own, pooling="mean"))
    assert other.transformer == spec.transformer
    assert kept_networks.kept_networks(other) is None
    with pytest.raises(EncoderError, match="the weights changed since the job was planned"):
        load_encoder(spec)


def test_nothing_is_kept_of_an_adapter_whose_model_lies_elsewhere(own, cache, tmp_path):
    layers = {"r": 4, "target_modules": ["query", "value"]}
    adapted = get_peft_model(AutoModel.from_pretrained(own), LoraConfig(**layers))
    adapted.save_pretrained(tmp_path / "adapter")
    wanted = config(tmp_path / "adapter", pooling="mean", backend="torch")
    before = read_model(wanted)
    assert before.identity.base == str(own)
    assert not kept(cache, "models")
    save_file(
        {name: one + 0.01 for name, one in load_file(own / "model.safetensors").items()},
        own / "model.safetensors",
        {"format": "pt"},
    )
    assert read_model(wanted).identity.weights_hash != before.identity.weights_hash


def test_a_model_of_another_release_is_read_anew(own, monkeypatch):
    wanted = config(own, pooling="mean")
    read_model(wanted)
    monkeypatch.setattr(kept_model, "code_state", lambda *_: {"embedkit": "another"})
    monkeypatch.setattr("embedkit.encoders.transformer.model_files._read", never)
    with pytest.raises(AssertionError, match="made anew"):
        read_model(wanted)


_SEARCH = """
import sys
from embedkit.config import JobConfig, ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

spec = read_model(ModelConfig(model=sys.argv[1], pooling="mean"))
ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(["some rain"])
load_encoder(spec).encode(TokenBatch(ids, offsets))
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_what_is_kept_needs_neither_torch_nor_transformers(own):
    for file in own.rglob("*"):
        os.utime(file, (1, 1))
    time.sleep(2.1)

    def loaded() -> str:
        done = subprocess.run(
            [sys.executable, "-c", _SEARCH, own], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert loaded() == "['torch', 'transformers']"
    assert loaded() == "[]"
