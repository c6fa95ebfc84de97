"""Cores, processor and GPU of this machine, for encoders of every kind."""

import glob
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import ConfigError

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Of NVIDIA's driver, as it is on servers, in WSL and on Jetson boards, and of AMD's.
_GPU_DEVICES = ("/dev/nvidia*", "/dev/dxg", "/dev/nvhost*", "/dev/nvmap", "/dev/kfd")
_PROCESSOR = Path("/proc/cpuinfo")
_BF16_COMPUTE_CAPABILITY = (8, 0)
_FLOAT8_COMPUTE_CAPABILITY = (8, 9)
# cuBLAS has no scales by rows on GPUs of 12.0 (pytorch/pytorch, issue 192707).
_NO_SCALED_ROWS = (12, 0)


@dataclass(frozen=True)
class Gpu:
    """The CUDA devices of a machine, which are all alike.

    Attributes:
        has_bf16: Whether they compute in bfloat16.
        name: Their name, such as ``NVIDIA L4``; empty where it is not known.
        count: How many there are.
        has_float8: Whether they multiply in 8-bit floating point, with a scale for each row.
    """

    has_bf16: bool
    name: str = ""
    count: int = 1
    has_float8: bool = False


@dataclass(frozen=True)
class Machine:
    """The machine that is to run a model.

    Attributes:
        find_gpu: Tells its GPU, or None where it has none; asked only where it matters.
        is_here: Whether it is this one, so that its processor can be asked what it does.
    """

    find_gpu: Callable[[], Gpu | None]
    is_here: bool = False


def gpu_here() -> Gpu | None:
    """Returns this machine's GPU as torch finds it, which is not asked where there is no driver."""
    if not _may_have_gpu():
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    capability = torch.cuda.get_device_capability()
    return Gpu(
        has_bf16=capability >= _BF16_COMPUTE_CAPABILITY,
        name=torch.cuda.get_device_name(),
        count=torch.cuda.device_count(),
        has_float8=_FLOAT8_COMPUTE_CAPABILITY <= capability < _NO_SCALED_ROWS,
    )


HERE = Machine(gpu_here, is_here=True)


def _may_have_gpu() -> bool:
    """Tells whether a driver of GPUs has left a trace, as any does without which torch has none.

    Torch takes seconds to import, for nothing on most CPUs.
    """
    if sys.platform != "linux":
        return True
    return any(found for pattern in _GPU_DEVICES for found in glob.iglob(pattern))


def wanted_gpu(device: str, machine: Machine) -> Gpu | None:
    """Returns the GPU to run on, or None for the CPU.

    Args:
        device: ``cpu``, ``cuda`` or ``auto``, which takes a GPU when there is one.
        machine: The machine.

    Raises:
        ConfigError: A GPU is asked for, and there is none.
    """
    if device == "cpu":
        return None
    found = machine.find_gpu()
    if device == "cuda" and found is None:
        raise ConfigError(
            "device is cuda, but torch finds no CUDA device here; check the driver and that torch "
            "was installed with CUDA, or take device cpu"
        )
    return found


def device_is_lost(error: RuntimeError) -> bool:
    """Tells whether an error leaves the GPU unusable for the rest of this process."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return False
    text = str(error)
    return "CUDA error" in text or "CUBLAS_STATUS" in text or "CUDNN_STATUS" in text


def usable_cores(quota: Path = _CPU_QUOTA) -> int:
    """Returns the number of cores that this process may use.

    Args:
        quota: Where Linux tells the quota of the process's container: more threads than that would
            only take turns.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    allowed, _, period = quota.read_text().partition(" ") if quota.is_file() else ("max", "", "")
    if allowed == "max":
        return cores
    return max(1, min(cores, math.ceil(int(allowed) / int(period))))


def processor_name() -> str:
    """Returns the processor's name, for the manifest and the report."""
    return f"{_processor_says('model name') or 'cpu'} ({usable_cores()} cores)"


def processor_abilities() -> str:
    """Returns the processor's model and what it can do, as far as the machine says it."""
    return f"{_processor_says('model name')}: {_processor_says('flags', 'Features')}"


def _processor_says(*names: str) -> str:
    for line in _PROCESSOR.read_text().splitlines() if _PROCESSOR.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() in names:
            return value.strip()
    return ""
