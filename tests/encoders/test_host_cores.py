"""How many cores keep a GPU busy."""

from dataclasses import replace

import pytest

from embedkit.config import ModelConfig
from embedkit.encoders import host_cores
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.host_cores import CORES_OF_A_PROCESS, HostWork, cores_per_gpu
from embedkit.encoders.kinds import read_model, tokens_per_second
from embedkit.encoders.spec import ModelSpec


@pytest.fixture
def spec(tiny_model) -> ModelSpec:
    config = ModelConfig(model=tiny_model, pooling="mean", device="cuda")
    return read_model(config, Machine(lambda: Gpu(has_bf16=True)))


def test_one_core_does_what_the_benchmarks_found():
    """Of WikiText-2 and vectors of 384 components, 0.7 to 0.9 million tokens/s."""
    assert 0.7e6 < HostWork(384, row_tokens=143).tokens_per_second < 0.9e6


def test_wide_vectors_of_short_rows_and_slow_tokenizers_take_more():
    usual = HostWork(384).tokens_per_second
    assert HostWork(4096).tokens_per_second < usual
    assert HostWork(384, row_tokens=8).tokens_per_second < usual
    seconds = 1 / HostWork(384, tokenizing=5e-6).tokens_per_second
    assert seconds - 1 / HostWork(384, tokenizing=2e-6).tokens_per_second == pytest.approx(3e-6)


def test_cores_of_a_process_are_those_that_it_has_a_use_for():
    work = HostWork(384)
    used = work.process_tokens_per_second / work.tokens_per_second
    assert round(used) == CORES_OF_A_PROCESS


def test_cores_are_the_gpus_rate_by_that_of_a_core(spec):
    work = HostWork(768, row_tokens=50, tokenizing=2e-6)
    expected = tokens_per_second(spec, "NVIDIA L4") / work.tokens_per_second
    assert cores_per_gpu(spec, "NVIDIA L4", work) == pytest.approx(expected)
    usual = HostWork(spec.vectors.dimension)
    assert cores_per_gpu(spec, "NVIDIA L4") == cores_per_gpu(spec, "NVIDIA L4", usual)
    assert cores_per_gpu(spec, "NVIDIA H200") > 8 * cores_per_gpu(spec, "NVIDIA L4")


def test_an_encoder_on_cpus_needs_none_beside(spec):
    placement = replace(spec.placement, device="cpu")
    assert cores_per_gpu(replace(spec, placement=placement), "AMD EPYC (2 cores)") == 0


def test_a_kind_that_guesses_no_speed_gets_a_usual_number(spec, monkeypatch):
    monkeypatch.setattr(host_cores, "tokens_per_second", lambda spec, gpu: None)
    assert cores_per_gpu(spec, "NVIDIA L4") == 8
