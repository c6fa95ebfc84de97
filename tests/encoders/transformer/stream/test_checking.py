"""What a model must show before its rows go in a stream."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import CONFIGURATIONS, MORE, OTHERS

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

WITH_BIASES = {"mpnet", "deberta-v2", "deberta-v3", "t5"}


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
