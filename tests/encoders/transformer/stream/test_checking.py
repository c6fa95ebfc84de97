"""What a model must show before its rows go in a stream."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import CONFIGURATIONS, MORE, OTHERS, make_tokenizer
from transformers import AutoModel, BertModel, PreTrainedModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.transformer.architecture import attends_by_interface, transformer_config
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.stream import checking
from embedkit.encoders.transformer.stream.checking import (
    NotStreamed,
    check_batch,
    checked_stream,
    compare,
    padded_vectors,
)
from embedkit.encoders.transformer.stream.positions import positions_of

WITH_BIASES = {"mpnet", "deberta", "deberta-v2", "deberta-v3", "t5"}


def check(directory: str, **settings) -> None:
    config = ModelConfig(model=directory, backend="torch", device="cpu", precision="float32")
    spec = read_model(config.model_copy(update={"pooling": "mean", "max_tokens": 64} | settings))
    network = load_network(spec)
    batch = check_batch(network, spec)
    expected = padded_vectors(network, batch, spec.pad_id)
    checked_stream(network, spec, batch, expected)


@pytest.mark.parametrize("architecture", CONFIGURATIONS | OTHERS | MORE)
def test_which_models_may_be_streamed(architecture, plain_model):
    """Those that the library says so of pass; of the others none is taken for one that does."""
    directory = plain_model(architecture)
    able = attends_by_interface(transformer_config(Path(directory)), directory)
    assert able == (architecture not in WITH_BIASES)
    if able:
        check(directory)
    else:
        with pytest.raises(NotStreamed):
            check(directory)


SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
LONG_ROPE = {
    "rope_type": "longrope",
    "factor": 4.0,
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 256,
}


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        # A window that is in its masks alone.
        (
            "Phimoe",
            {"sliding_window": 200, "num_local_experts": 2, "head_dim": 8},
            "gives other vectors",
        ),
        ("Llama", {"rope_parameters": LONG_ROPE}, "tokens that stand elsewhere where longer rows"),
        ("Mistral", {"rope_parameters": LONG_ROPE, "head_dim": 8}, "tokens that stand elsewhere"),
        ("Mistral", {"sliding_window": 200, "head_dim": 8}, None),
        ("Gemma3Text", {"sliding_window": 200, "head_dim": 8, "query_pre_attn_scalar": 8}, None),
    ],
)
def test_what_only_long_rows_show(name, settings, reason, tmp_path):
    tokenizer = make_tokenizer("bytes")
    tokenizer.save_pretrained(tmp_path)
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **(SIZE | settings))
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    model.save_pretrained(tmp_path)
    with nullcontext() if reason is None else pytest.raises(NotStreamed, match=reason):
        check(str(tmp_path), max_tokens=512)


def test_a_model_that_does_not_tell_its_embeddings(plain_model, monkeypatch):
    monkeypatch.setattr(BertModel, "get_input_embeddings", PreTrainedModel._init_weights)
    with pytest.raises(NotStreamed, match="bert does not run on a stream"):
        check(plain_model("bert"))


def test_no_mask_is_made_of_the_longest_row(plain_model):
    """Of a row of some ten thousand tokens it would be gigabytes."""
    config = ModelConfig(model=plain_model("mistral"), pooling="mean", device="cpu")
    network = load_network(read_model(config.model_copy(update={"backend": "torch"})))
    masks = []
    network.transformer.layers[0].register_forward_pre_hook(
        lambda module, arguments, keywords: masks.append(keywords["attention_mask"]),
        with_kwargs=True,
    )
    positions_of(network.transformer, 64, 0)
    assert masks
    assert all(mask is None for mask in masks)


@pytest.mark.parametrize("fault", ["positions", "neighbours", "arguments"])
def test_a_fault_is_found(fault, plain_model, monkeypatch):
    class Wrong(checking.StreamNetwork):
        def __init__(self, network, spec):
            super().__init__(network, spec)
            if fault == "positions":
                self.positions += self.positions > 2

        def forward(self, input_ids, places, offsets, longest):
            if fault == "neighbours":
                offsets = torch.cat([offsets[:2], offsets[1:2], offsets[3:]])
            if fault == "arguments":
                return self.network.transformer(inputs=input_ids)
            return super().forward(input_ids, places, offsets, longest)

    monkeypatch.setattr(checking, "StreamNetwork", Wrong)
    with pytest.raises(NotStreamed, match="stream"):
        check(plain_model("bert"))


def test_vectors_that_are_not_finite_are_other_vectors(plain_model):
    config = ModelConfig(model=plain_model("bert"), pooling="mean", device="cpu", backend="torch")
    spec = read_model(config)
    good = torch.ones(2, 4).numpy()
    compare(good * 1.05, good, spec, "bfloat16")
    for wrong in (good * 1.2, good * float("nan")):
        with pytest.raises(NotStreamed, match="bert in bfloat16, gives other vectors on a stream"):
            compare(wrong, good, spec, "bfloat16")


def test_rows_to_try_have_no_fill_whatever_its_id(plain_model):
    config = ModelConfig(model=plain_model("qwen3"), pooling="mean", device="cpu", backend="torch")
    spec = read_model(config)
    network = load_network(spec)
    words = network.transformer.get_input_embeddings().num_embeddings
    for pad_id in (0, words // 2, words - 1):
        batch = check_batch(network, replace(spec, pad_id=pad_id))
        assert pad_id not in batch.input_ids
        assert 0 <= batch.input_ids.min() <= batch.input_ids.max() < words
        assert batch.lengths.max() <= spec.tokenizer.max_tokens
