"""Guesses how fast a transformer is on this machine, without loading it."""

import time

from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.tokens.tokenization import transformers_library

_SHARE_OF_PEAK = 0.7
"""What encoders reach of the rate of bare matrix products; see tests/benchmarks/RESULTS.md."""


def cpu_tokens_per_second(spec: TransformerSpec) -> float:
    """Guesses the speed from the model's shape and how fast matrix products are now."""
    # Not the file: architectures have names of their own for these sizes.
    shape = transformers_library().AutoConfig.from_pretrained(
        spec.transformer, trust_remote_code=False, local_files_only=True
    )
    hidden, layers = int(shape.hidden_size), int(shape.num_hidden_layers)
    inner = int(getattr(shape, "intermediate_size", None) or 4 * hidden)
    # Per token and layer: four projections of attention, two of the feed-forward net.
    flops = layers * (8 * hidden * hidden + 4 * hidden * inner)
    return _SHARE_OF_PEAK * _matrix_product_rate(spec.placement.precision, hidden, inner) / flops


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
