"""How many cores keep a GPU busy."""

from dataclasses import replace

import pytest

from embedkit.config import ModelConfig
from embedkit.encoders import host_cores as module
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.host_cores import HostCores, HostWork, host_cores
from embedkit.encoders.kinds import read_model, tokens_per_second
from embedkit.encoders.spec import ModelSpec
from embedkit.tokens import tokenization


@pytest.fixture
def spec(tiny_model) -> ModelSpec:
    config = ModelConfig(model=tiny_model, pooling="mean", device="cuda")
    return read_model(config, Machine(lambda: Gpu(has_bf16=True)))


@pytest.fixture
def by_tokenizers(monkeypatch):
    """As it is where nanotoken is not installed."""
    monkeypatch.setattr(tokenization, "wordpiece_encoder", lambda tokenizer: None)


@pytest.mark.usefixtures("by_tokenizers")
def test_what_cores_and_processes_do_by_the_tokenizers_library(spec):
    """As the benchmarks found for WikiText-2, whose rows have 143 tokens."""
    work = replace(HostWork.of(spec), dimension=384, row_tokens=143)
    assert 0.7e6 < work.tokens_per_second < 0.9e6
    assert 6e6 < work.process_tokens_per_second < 9e6


def test_what_they_do_by_nanotoken(spec):
    pytest.importorskip("nanotoken")
    work = replace(HostWork.of(spec), dimension=384, row_tokens=143)
    assert 5e6 < work.tokens_per_second < 9e6
    assert 10e6 < work.process_tokens_per_second < 20e6


def test_wide_vectors_of_short_rows_and_slow_tokenizers_take_more(spec):
    work = HostWork.of(spec)
    assert replace(work, dimension=4096).tokens_per_second < work.tokens_per_second
    assert replace(work, row_tokens=8).tokens_per_second < work.tokens_per_second
    slow, slower = (1 / replace(work, tokenizing=s).tokens_per_second for s in (2e-6, 5e-6))
    assert slower - slow == pytest.approx(3e-6)


def test_one_core_is_as_much_as_a_process_can_use_where_all_is_python():
    work = HostWork(384, tokenizing=1e-6, in_python=9e-6)
    assert work.process_tokens_per_second == work.tokens_per_second


def test_cores_are_the_gpus_rate_by_that_of_a_core(spec):
    work = HostWork(768, tokenizing=2e-6, in_python=0.5e-6, row_tokens=50)
    found = host_cores(spec, "NVIDIA L4", work)
    rate = tokens_per_second(spec, "NVIDIA L4")
    assert found.per_gpu == pytest.approx(rate / work.tokens_per_second)
    assert found.per_process == pytest.approx(2e6 / work.tokens_per_second)
    assert host_cores(spec, "NVIDIA L4") == host_cores(spec, "NVIDIA L4", HostWork.of(spec))
    assert host_cores(spec, "NVIDIA H200").per_gpu > 8 * host_cores(spec, "NVIDIA L4").per_gpu


def test_an_encoder_on_cpus_needs_none_beside(spec):
    placement = replace(spec.placement, device="cpu")
    found = host_cores(replace(spec, placement=placement), "AMD EPYC (2 cores)")
    assert found == HostCores(per_gpu=0.0)


def test_a_kind_that_guesses_no_speed_gets_a_usual_number(spec, monkeypatch):
    monkeypatch.setattr(module, "tokens_per_second", lambda spec, gpu: None)
    assert host_cores(spec, "NVIDIA L4").per_gpu == 8
