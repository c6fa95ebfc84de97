"""Guesses how fast a transformer is on a device, without loading it."""

import time
from dataclasses import dataclass

from embedkit.encoders.gpus import GpuRates
from embedkit.encoders.transformer.placement import openvino_has_bf16
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.tokens.transformers_library import transformers_library

_SHARE_OF_PEAK = 0.7
"""What encoders reach of the rate of bare matrix products; see tests/benchmarks/RESULTS.md."""

_GPU_PRODUCTS = 0.8
_GPU_MEMORY = 0.9
"""What large products and copies reach of a GPU's published rates: 790 of 989 TFLOP/s, and 3.0 of
3.35 TB/s, of an H100."""

_MOVED_PER_LAYER = 34
"""Times a layer reads or writes a token's state where no step is fused with the next: 13 for
attention with its projections and norm, 21 for a feed-forward net four times as wide with its."""


@dataclass(frozen=True)
class TransformerShape:
    """Sizes that decide how long a token takes.

    Attributes:
        layers: Layers.
        hidden: Components of a token's state between them.
        inner: Components inside the feed-forward net.
    """

    layers: int
    hidden: int
    inner: int

    @classmethod
    def of(cls, spec: TransformerSpec) -> "TransformerShape":
        """Reads the sizes of a model."""
        return cls.read(spec.transformer)

    @classmethod
    def read(cls, directory: str) -> "TransformerShape":
        """Reads the sizes of the transformer in a directory."""
        # Not the file: architectures have names of their own for these sizes.
        config = transformers_library().AutoConfig.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        hidden = int(config.hidden_size)
        inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
        return cls(int(config.num_hidden_layers), hidden, inner)

    @property
    def flops(self) -> int:
        """Floating-point operations per token: four projections of attention, and the net's two."""
        return self.layers * (8 * self.hidden * self.hidden + 4 * self.hidden * self.inner)


def cpu_tokens_per_second(shape: TransformerShape, precision: str) -> float:
    """Guesses the speed on this CPU from the model's shape and how fast matrix products are now.

    Torch has no products of int8 on CPUs; they are taken for no faster than those of bfloat16.
    """
    if precision == "int8":
        precision = "bfloat16" if openvino_has_bf16() else "float32"
    rate = _matrix_product_rate(precision, shape.hidden, shape.inner)
    return _SHARE_OF_PEAK * rate / shape.flops


def gpu_tokens_per_second(shape: TransformerShape, precision: str, gpu: GpuRates) -> float:
    """Guesses the speed on a GPU from the model's shape and what is published of the GPU.

    Products and what is moved between them take turns. That gives 2.9 million tokens/s for a
    model of 12 layers and 384 components on an A100, of which 2.6 to 3.4 million are published, and
    half of its peak for BERT-base, of which 57 % is.
    """
    products, size = (gpu.single, 4) if precision == "float32" else (gpu.half, 2)
    if precision == "float8":
        products *= 2
    moved = shape.layers * _MOVED_PER_LAYER * shape.hidden * size
    return 1 / (shape.flops / (_GPU_PRODUCTS * products) + moved / (_GPU_MEMORY * gpu.memory))


def _matrix_product_rate(precision: str, hidden: int, inner: int) -> float:
    """Returns floating-point operations per second of products of the model's size."""
    import torch

    dtype = getattr(torch, precision)
    left = torch.ones(2048, hidden, dtype=dtype)
    right = torch.ones(hidden, inner, dtype=dtype)
    left @ right
    start = time.perf_counter()
    rounds = 0
    while (seconds := time.perf_counter() - start) < 0.2:
        left @ right
        rounds += 1
    return rounds * 2 * 2048 * hidden * inner / seconds
