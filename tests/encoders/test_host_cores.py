"""How many cores keep a GPU busy."""

import math
from dataclasses import replace

import numpy as np
import pytest

from embedkit.config import EngineConfig, ModelConfig
from embedkit.encoders import host_cores as module
from embedkit.encoders.fitting import (
    fit_cluster,
    fit_machine,
    workers_on_cluster,
    workers_on_machine,
)
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.host_cores import HostCores, HostWork, host_cores
from embedkit.encoders.kinds import read_model, tokens_per_second
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.static.directory import write_directory


@pytest.fixture
def spec(tiny_model) -> ModelSpec:
    config = ModelConfig(model=tiny_model, pooling="mean", device="cuda")
    return read_model(config, Machine(lambda: Gpu(has_bf16=True)))


def test_what_cores_and_processes_do_by_the_tokenizers_library():
    """As the benchmarks found for WikiText-2, whose rows have 143 tokens."""
    work = HostWork(384, row_tokens=143)
    assert 0.7e6 < work.tokens_per_second < 0.9e6
    assert 6e6 < work.process_tokens_per_second < 9e6


def test_what_they_do_where_words_were_met_before():
    work = HostWork(384, row_tokens=143, tokenizing=0.05e-6)
    assert 5e6 < work.tokens_per_second < 9e6
    assert 6e6 < work.process_tokens_per_second < 12e6


def test_wide_vectors_of_short_rows_and_slow_tokenizers_take_more():
    usual = HostWork(384).tokens_per_second
    assert HostWork(4096).tokens_per_second < usual
    assert HostWork(384, row_tokens=8).tokens_per_second < usual
    slow, slower = (1 / HostWork(384, tokenizing=s).tokens_per_second for s in (2e-6, 5e-6))
    assert slower - slow == pytest.approx(3e-6)


def test_cores_are_the_gpus_rate_by_that_of_a_core(spec):
    work = HostWork(768, row_tokens=50, tokenizing=2e-6)
    found = host_cores(spec, "NVIDIA L4", work)
    rate = tokens_per_second(spec, "NVIDIA L4")
    assert found.per_gpu == pytest.approx(rate / work.tokens_per_second)
    most = work.process_tokens_per_second
    assert found.per_process == pytest.approx(most / work.tokens_per_second)
    usual = HostWork(spec.vectors.dimension)
    assert host_cores(spec, "NVIDIA L4") == host_cores(spec, "NVIDIA L4", usual)
    assert host_cores(spec, "NVIDIA H200").per_gpu > 8 * host_cores(spec, "NVIDIA L4").per_gpu


def test_an_encoder_on_cpus_needs_none_beside(spec):
    placement = replace(spec.placement, device="cpu")
    found = host_cores(replace(spec, placement=placement), "AMD EPYC (2 cores)")
    assert found == HostCores(per_gpu=0.0)


def test_a_kind_that_guesses_no_speed_gets_a_usual_number(spec, monkeypatch):
    monkeypatch.setattr(module, "tokens_per_second", lambda spec, gpu: None)
    assert host_cores(spec, "NVIDIA L4").per_gpu == 8


def test_static_vectors_keep_every_core_busy_that_a_process_can_use(tmp_path):
    write_directory(tmp_path / "words", np.eye(50, dtype=np.float32), [f"w{n}" for n in range(50)])
    spec = read_model(ModelConfig(model=str(tmp_path / "words")))
    found = host_cores(spec, "AMD EPYC (2 cores)")
    assert found.per_gpu == 0
    assert found.per_cpu_encoder > 5
    config = EngineConfig()
    for cpus, workers in ((2, 3), (8, 8), (256, 1 + math.ceil(found.per_process))):
        fitting = fit_machine(config, spec.placement, {"CPU": cpus})
        assert workers_on_machine(config, fitting, found, cpus) == workers
    nodes = [{"CPU": 4.0}] * 3
    fitting = fit_cluster(config, spec.placement, nodes)
    assert workers_on_cluster(config, fitting, 3, 12, found) == 12
    assert workers_on_cluster(config, fitting, 3, 12, HostCores()) == 5
