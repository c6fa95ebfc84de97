"""What this machine can do, and what a model should run on where the job leaves it open."""

import importlib.util
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path

from embedkit.config import ModelConfig
from embedkit.errors import ConfigError

_log = logging.getLogger(__name__)

OPENVINO_ARCHITECTURES = frozenset(
    {"bert", "deberta-v2", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta"}
)
"""Model types whose conversion is tested; others run on torch unless OpenVINO is asked for."""

BATCH_TOKENS = {"cpu": 2_048, "cuda": 65_536}
"""Most tokens of a padded batch, by device, where the job does not say."""

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_BF16_COMPUTE_CAPABILITY = (8, 0)
_ISAS_WITHOUT_BF16 = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
)
"""Values of oneDNN's ONEDNN_MAX_CPU_ISA that forbid bf16 units, also where the CPU has them."""


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        backend: ``torch`` or ``openvino``.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        batch_tokens: Most tokens of a padded batch.
    """

    backend: str
    device: str
    precision: str
    batch_tokens: int


def choose_placement(config: ModelConfig, architecture: str) -> Placement:
    """Settles what the job leaves to ``auto``.

    Args:
        config: The job's wishes.
        architecture: The transformer's ``model_type``.

    Raises:
        ConfigError: This machine, or the backend, cannot do what is asked for.
    """
    if config.backend == "openvino" and config.device == "cuda":
        raise ConfigError("backend openvino runs on cpu; take device cpu, or backend torch")
    device = _device(config)
    backend = _backend(config, device, architecture)
    precision = _precision(config, backend, device)
    return Placement(backend, device, precision, config.batch_tokens or BATCH_TOKENS[device])


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
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return f"{value.strip()} ({usable_cores()} cores)"
    return f"cpu ({usable_cores()} cores)"


def _device(config: ModelConfig) -> str:
    if config.device == "cpu" or (config.device == "auto" and config.backend == "openvino"):
        return "cpu"
    import torch

    found = torch.cuda.is_available()
    if config.device == "cuda" and not found:
        raise ConfigError(
            "device is cuda, but torch finds no CUDA device here; check the driver and that torch "
            "was installed with CUDA, or take device cpu"
        )
    return "cuda" if found else "cpu"


def _backend(config: ModelConfig, device: str, architecture: str) -> str:
    if config.backend == "openvino":
        if not _openvino_is_installed():
            raise ConfigError(
                "backend is openvino, but it is not installed; install embedkit[openvino], or take "
                "backend torch"
            )
        return "openvino"
    if config.backend == "torch" or device != "cpu" or config.precision == "float16":
        return "torch"
    if not _openvino_is_installed():
        return "torch"
    if architecture not in OPENVINO_ARCHITECTURES:
        _log.warning(
            "torch runs the model, as model type %s is not tried with OpenVINO; backend openvino "
            "asks for it all the same",
            architecture,
        )
        return "torch"
    return "openvino"


def _precision(config: ModelConfig, backend: str, device: str) -> str:
    if backend == "openvino":
        return _openvino_precision(config)
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if _torch_has_bf16(device) else "float32"


def _openvino_precision(config: ModelConfig) -> str:
    if config.precision == "float16":
        raise ConfigError("backend openvino has no float16 on cpu; take bfloat16 or float32")
    from embedkit.encoders.silent_openvino import openvino

    units = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    able = "BF16" in units and _may_use_bf16_units()
    if config.precision == "bfloat16" and not able:
        raise ConfigError(
            "precision is bfloat16, but this processor has no bf16 units; take precision float32"
        )
    return "bfloat16" if able and config.precision != "float32" else "float32"


def _torch_has_bf16(device: str) -> bool:
    import torch

    if device == "cuda":
        return torch.cuda.get_device_capability() >= _BF16_COMPUTE_CAPABILITY
    return _may_use_bf16_units() and torch.cpu._is_avx512_bf16_supported()


def _may_use_bf16_units() -> bool:
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _ISAS_WITHOUT_BF16


def _openvino_is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None
