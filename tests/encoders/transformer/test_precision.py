"""Half precision: what is cast, what stays, and how near it comes to float32."""

import copy

import pytest
import torch
from transformers import AutoModel, AutoModelForTextEncoding

from embedkit.encoders.transformer.precision import to_precision

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def hidden(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=ids).last_hidden_state.float()


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("architecture", ["bert", "deberta-v3", "mpnet", "gpt2"])
def test_all_weights_are_cast(architecture, precision, plain_model):
    model = AutoModel.from_pretrained(plain_model(architecture), dtype=torch.float32).eval()
    ids = torch.arange(5, 35)[None]
    exact = hidden(model, ids)
    to_precision(model, precision)
    assert {weight.dtype for weight in model.parameters()} == {HALF[precision]}
    near = torch.nn.functional.cosine_similarity(hidden(model, ids), exact, dim=-1)
    assert near.min() > 0.999


@pytest.mark.parametrize("architecture", ["modernbert", "qwen3"])
def test_rotary_frequencies_stay_exact(architecture, plain_model):
    """Far from a row's start a rounded frequency is a wrong angle."""
    model = AutoModel.from_pretrained(plain_model(architecture), dtype=torch.float32).eval()
    model.config.max_position_embeddings = 4096
    ids = torch.randint(5, 60, (1, 3000), generator=torch.Generator().manual_seed(1))
    exact = hidden(model, ids)
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    to_precision(model, "bfloat16")

    def far(other: torch.nn.Module) -> float:
        near = torch.nn.functional.cosine_similarity(hidden(other, ids), exact, dim=-1)
        return float(1 - near.min())

    assert far(model) < far(rounded) / 1.5


@pytest.mark.parametrize(("precision", "kept"), [("float16", True), ("bfloat16", False)])
def test_what_the_library_keeps_in_float32_in_half_precision(precision, kept, plain_model):
    """T5's feed-forward outputs overflow in float16."""
    directory = plain_model("t5")
    model = AutoModelForTextEncoding.from_pretrained(directory, dtype=torch.float32).eval()
    oracle = AutoModelForTextEncoding.from_pretrained(directory, dtype=HALF[precision]).eval()
    to_precision(model, precision)
    ours = {name: weight.dtype for name, weight in model.named_parameters()}
    assert ours == {name: weight.dtype for name, weight in oracle.named_parameters()}
    assert any(dtype == torch.float32 for dtype in ours.values()) == kept
    ids = torch.arange(5, 35)[None]
    assert torch.equal(hidden(model, ids), hidden(oracle, ids))


def test_float32_is_left_as_it_is(plain_model):
    model = AutoModel.from_pretrained(plain_model("modernbert"), dtype=torch.float32).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    to_precision(model, "float32")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
