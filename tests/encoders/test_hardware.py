"""How many cores a process may use, and what a GPU computes in."""

import os

import pytest

from embedkit.encoders import hardware
from embedkit.encoders.hardware import gpu_here, usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", CORES),
        ("100000 100000\n", 1),
        ("20000 100000\n", 1),
        (f"{CORES * 100000 + 50000} 100000\n", CORES),
        (f"{(CORES - 1) * 100000 + 1} 100000\n", CORES),
    ],
)
def test_a_containers_quota_counts(tmp_path, quota, cores):
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(file) == cores


def test_without_a_quota_the_cores_of_the_process_count(tmp_path):
    assert usable_cores(tmp_path / "absent") == CORES


@pytest.mark.parametrize(
    ("capability", "bf16", "float8"),
    [
        ((7, 5), False, False),
        ((8, 0), True, False),
        ((8, 6), True, False),
        ((8, 9), True, True),
        ((9, 0), True, True),
        ((10, 0), True, True),
        ((12, 0), True, False),
    ],
)
def test_what_a_gpu_computes_in(capability, bf16, float8, monkeypatch):
    monkeypatch.setattr(hardware, "_GPU_DEVICES", (os.devnull,))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    found = gpu_here()
    assert (found.has_bf16, found.has_float8) == (bf16, float8)
    assert (found.name, found.count) == ("NVIDIA H100 80GB HBM3", 8)


@pytest.mark.parametrize(
    ("platform", "traces", "asked"),
    [("linux", (), False), ("linux", ("here",), True), ("darwin", (), True)],
)
def test_torch_is_asked_where_a_driver_has_left_a_trace(
    platform, traces, asked, tmp_path, monkeypatch
):
    for name in traces:
        (tmp_path / name).touch()
    monkeypatch.setattr(hardware, "_GPU_DEVICES", (str(tmp_path / "here*"),))
    monkeypatch.setattr("sys.platform", platform)
    questions = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: questions.append(1))
    assert gpu_here() is None
    assert bool(questions) is asked
