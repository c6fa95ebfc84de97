"""The limit of a transformer on this machine: its matrix products at the rate they really reach."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.encoders.hardware import usable_cores

_ROWS = 2_048
_SQUARE = 2_048


def flops_per_token(model: str, lengths: NDArray[np.int64]) -> float:
    """Returns the floating-point operations of a BERT's matrix products per token.

    Per layer and token: query, key, value and output are 4 products with h x h weights, the
    feed-forward net 2 with h x f; attention multiplies n x h by h x n, and n x n by n x h, per text
    of n tokens. A multiply and an add are two operations.

    Args:
        model: The model's directory.
        lengths: Tokens per text, shape (texts,).
    """
    config = json.loads((Path(model) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    seen = float((lengths.astype(float) ** 2).sum() / lengths.sum())
    per_layer = 2 * (4 * hidden**2 + 2 * hidden * inner) + 2 * 2 * seen * hidden
    return config["num_hidden_layers"] * per_layer


def product_rates(model: str, precision: str, seconds: float = 1.5) -> dict[str, float]:
    """Measures matrix products on all cores.

    Args:
        model: The model's directory, whose linear layers give the shapes.
        precision: ``float32`` or ``bfloat16``.
        seconds: How long each shape is measured.

    Returns:
        Operations per second: ``square`` of a large product, ``layers`` of the model's own linear
        layers with a batch of 2,048 tokens.
    """
    torch.set_num_threads(usable_cores())
    config = json.loads((Path(model) / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    dtype = getattr(torch, precision)
    square = [(_SQUARE, _SQUARE, _SQUARE)]
    layers = [(_ROWS, hidden, hidden)] * 4 + [(_ROWS, hidden, inner), (_ROWS, inner, hidden)]
    with torch.inference_mode():
        return {
            "square": _rate(square, dtype, seconds),
            "layers": _rate(layers, dtype, seconds),
        }


def _rate(shapes: list[tuple[int, int, int]], dtype: torch.dtype, seconds: float) -> float:
    pairs = [(torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)) for m, k, n in shapes]
    flops = sum(2 * m * k * n for m, k, n in shapes)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        for rows, weights in pairs:
            torch.nn.functional.linear(rows, weights)
        best = min(best, time.perf_counter() - start)
    return flops / best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("precision", choices=["float32", "bfloat16"])
    options = parser.parse_args()
    print(json.dumps(product_rates(options.model, options.precision)))
