"""Guesses of a transformer's speed, against counts of torch's own and published measurements."""

import pytest
import torch
from tiny_models import save_transformer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from embedkit.config import ModelConfig
from embedkit.encoders.gpus import GpuRates, published_rates
from embedkit.encoders.kinds import read_model, tokens_per_second
from embedkit.encoders.transformer.speed import TransformerShape, gpu_tokens_per_second

SMALL = TransformerShape(layers=12, hidden=384, inner=1536)
BASE = TransformerShape(layers=12, hidden=768, inner=3072)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_operations_are_those_of_the_linear_layers(architecture, tmp_path):
    directory = save_transformer(tmp_path / architecture, architecture)
    spec = read_model(ModelConfig(model=directory, pooling="mean", device="cpu"))
    model, tokens = AutoModel.from_pretrained(directory).eval(), 20
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(torch.full((1, tokens), 7))
    linear = counter.get_flop_counts()["Global"][torch.ops.aten.addmm]
    pooler = 2 * model.config.hidden_size**2
    assert TransformerShape.of(spec).flops * tokens == linear - pooler


def test_a_small_model_is_as_fast_as_is_published_of_it():
    """2.6 to 3.4 million tokens/s of e5-small on an A100."""
    assert 2.6e6 < gpu_tokens_per_second(SMALL, "bfloat16", published_rates("A100")) < 3.4e6


def test_bert_base_reaches_a_share_of_the_peak_near_the_published_one():
    """57 % of an A100's by TensorRT, which fuses what is counted here as moved."""
    peak = published_rates("A100")
    assert 0.5 < gpu_tokens_per_second(BASE, "float16", peak) * BASE.flops / peak.half < 0.57


def test_float32_has_its_own_rate_and_moves_twice_as_much():
    products, memory = GpuRates("p", 8e12, 1e12, 1e30), GpuRates("m", 1e30, 1e30, 1e12)
    fast = gpu_tokens_per_second(BASE, "bfloat16", products)
    assert fast == pytest.approx(8 * gpu_tokens_per_second(BASE, "float32", products))
    moved = gpu_tokens_per_second(BASE, "bfloat16", memory)
    assert moved == pytest.approx(2 * gpu_tokens_per_second(BASE, "float32", memory))


def test_the_guess_is_of_the_device_that_the_model_is_placed_on(tiny_model):
    from embedkit.encoders.hardware import Gpu, Machine

    config = ModelConfig(model=tiny_model, pooling="mean", device="cuda")
    spec = read_model(config, Machine(lambda: Gpu(has_bf16=True)))
    slow, fast = (tokens_per_second(spec, name) for name in ("NVIDIA L4", "NVIDIA H200"))
    assert fast > 8 * slow
    assert tokens_per_second(spec) == tokens_per_second(spec, "NVIDIA A100-SXM4-40GB")
