"""Chooses backend, device and precision of a transformer where the job leaves them open."""

import importlib.metadata
import importlib.util
import logging
import os

from embedkit.config import ModelConfig
from embedkit.encoders.hardware import Gpu, Machine, processor_abilities, wanted_gpu
from embedkit.encoders.spec import Placement
from embedkit.errors import ConfigError

_log = logging.getLogger(__name__)

OPENVINO_ARCHITECTURES = frozenset(
    {
        *("albert", "bert", "deberta", "deberta-v2", "distilbert", "electra", "gte", "modernbert"),
        *("mpnet", "nomic_bert", "roberta", "xlm-roberta"),
    }
)
"""Model types whose conversion is tested; others run on torch unless OpenVINO is asked for."""

ONNXRUNTIME = "onnxruntime"
"""What runs ONNX files, as a placement names it."""

_BATCH_TOKENS = {"cpu": 2_048, "cuda": 65_536}
"""Most tokens that are computed at once, by device, where the job does not say."""

_STREAMED_PRECISIONS = frozenset({"bfloat16", "float16", "float8"})
"""Those in which attention gets what FlashAttention computes in."""

_ISAS_WITHOUT_BF16 = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}
)
"""Values of oneDNN's ONEDNN_MAX_CPU_ISA that forbid bf16 units, also where the CPU has them."""

_ISAS_WITHOUT_INT8 = frozenset({"SSE41", "AVX", "AVX2", "AVX512_CORE"})
_INT8_UNITS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "i8mm", "asimddp"})
"""Flags of processors that add products of 8 bits in 32."""


def choose_placement(
    config: ModelConfig, architecture: str, machine: Machine, can_stream: bool = False
) -> Placement:
    """Settles what the job leaves to ``auto``.

    On a processor that cannot be asked, ``auto`` is float32, which any has.

    Args:
        config: The job's wishes.
        architecture: The transformer's ``model_type``.
        machine: What is to run it.
        can_stream: Whether the architecture can do without padding, where the GPU can.

    Raises:
        ConfigError: The machine, or the backend, cannot do what is asked for.
    """
    only_cpu = config.backend in ("openvino", "onnx")
    if only_cpu and config.device == "cuda":
        raise ConfigError(
            f"backend {config.backend} runs on cpu; take device cpu, or backend torch"
        )
    on_cpu = config.device == "auto" and only_cpu
    gpu = None if on_cpu else wanted_gpu(config.device, machine)
    device = "cpu" if gpu is None else "cuda"
    backend = _backend(config, device, architecture)
    precision = _precision(config, backend, gpu, machine)
    return Placement(
        backend,
        device,
        precision,
        config.batch_tokens or _BATCH_TOKENS[device],
        config.encoder_threads,
        unpadded=gpu is not None and _is_unpadded(gpu, architecture, precision, can_stream),
    )


def _is_unpadded(gpu: Gpu, architecture: str, precision: str, can_stream: bool) -> bool:
    """Tells whether a GPU runs a model on a stream; says why where it does not."""
    from embedkit.encoders.transformer.stream.attention import has_kernel

    reasons = (
        (not can_stream, f"model type {architecture} attends in a way of its own"),
        (precision not in _STREAMED_PRECISIONS, f"FlashAttention has no {precision}"),
        (not gpu.has_bf16, "FlashAttention needs a GPU of compute capability 8.0"),
        (not has_kernel(), "this torch has no varlen_attn; 2.10 or later has it"),
    )
    reason = next((why for holds, why in reasons if holds), None)
    if reason is not None:
        _log.info("the GPU computes padded batches, as %s", reason)
    return reason is None


def _backend(config: ModelConfig, device: str, architecture: str) -> str:
    if config.backend == "onnx":
        _check_onnxruntime()
        return ONNXRUNTIME
    if config.backend == "openvino":
        if not _openvino_is_installed():
            raise ConfigError(
                "backend is openvino, but it is not installed; install openvino, which is the "
                "extra openvino of embedkit-batch, or take backend torch"
            )
        return "openvino"
    only_torch = config.precision in ("float16", "float8")
    if config.backend == "torch" or device != "cpu" or only_torch:
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


def _precision(config: ModelConfig, backend: str, gpu: Gpu | None, machine: Machine) -> str:
    if backend == "openvino":
        return _openvino_precision(config, machine)
    if config.precision == "int8":
        raise ConfigError(
            f"precision is int8, which backend openvino alone has, on cpu, but {backend} is to run "
            f"the model on {'cpu' if gpu is None else 'cuda'}; give --backend openvino and "
            "--device cpu, or take another precision"
        )
    if backend == ONNXRUNTIME:
        if config.precision not in ("auto", "float32"):
            raise ConfigError(
                f"precision is {config.precision}, but backend onnx computes as its file says; "
                "leave the setting out, or choose another file with --onnx-file"
            )
        return "float32"
    if config.precision == "float8" and not (gpu is not None and gpu.has_float8):
        raise ConfigError(
            "precision is float8, which needs a GPU of compute capability 8.9 to 11, such as L4 or "
            "H100; take precision bfloat16"
        )
    if config.precision != "auto":
        return config.precision
    if gpu is None:
        has_bf16 = machine.is_here and _torch_has_bf16()
    else:
        has_bf16 = gpu.has_bf16
    return "bfloat16" if has_bf16 else "float32"


def _openvino_precision(config: ModelConfig, machine: Machine) -> str:
    if config.precision in ("float16", "float8"):
        raise ConfigError(
            f"backend openvino has no {config.precision} on cpu; take bfloat16 or float32"
        )
    if not machine.is_here:
        return "float32" if config.precision == "auto" else config.precision
    if config.precision == "int8":
        _warn_of_slow_int8()
        return "int8"
    able = openvino_has_bf16()
    if config.precision == "bfloat16" and not able:
        raise ConfigError(
            "precision is bfloat16, but this processor has no bf16 units; take precision float32"
        )
    return "bfloat16" if able and config.precision != "float32" else "float32"


def openvino_has_bf16() -> bool:
    """Tells whether OpenVINO computes in bfloat16 on this processor."""
    from embedkit.encoders.transformer.silent_openvino import openvino

    units = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in units and _may_use_bf16_units()


def _warn_of_slow_int8() -> None:
    """Says where int8 gains nothing, as a processor has to take its products apart."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _ISAS_WITHOUT_INT8
    if not allowed or not _INT8_UNITS.intersection(processor_abilities().split()):
        _log.warning(
            "this processor has no units for products of int8 (VNNI), so float32 is faster here"
        )


def _torch_has_bf16() -> bool:
    import torch

    return _may_use_bf16_units() and torch.cpu._is_avx512_bf16_supported()


def _may_use_bf16_units() -> bool:
    return os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _ISAS_WITHOUT_BF16


def _check_onnxruntime() -> None:
    # Not where the module is found: other distributions of it have names of their own.
    try:
        importlib.metadata.version(ONNXRUNTIME)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            "backend is onnx, but onnxruntime is not installed; install onnxruntime, which is the "
            "extra onnx of embedkit-batch, or take another backend"
        ) from error


def _openvino_is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None
