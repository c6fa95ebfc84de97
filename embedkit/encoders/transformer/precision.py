"""Brings a transformer to another precision, all but what its own library keeps exact."""

import re
from typing import Any

import torch
from torch import nn

from embedkit.encoders.transformer.float8 import Float8Linear, float8_linears

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_EXACT_BUFFERS = re.compile(r"inv_freq$")
"""Frequencies of rotary positions: rounded, they turn tokens far from the start too far."""


def to_precision(transformer: nn.Module, precision: str) -> None:
    """Casts a transformer in place.

    Args:
        transformer: A model of transformers, in float32.
        precision: ``float32``, ``bfloat16``, ``float16``, or ``float8`` of linear layers with the
            rest in bfloat16.

    Raises:
        ConfigError: It has no layers for float8.
    """
    if any(isinstance(part, Float8Linear) for part in transformer.modules()):
        return  # It was brought there before.
    made = float8_linears(transformer) if precision == "float8" else []
    _cast(transformer, _DTYPES["bfloat16" if precision == "float8" else precision])
    # Not before, as theirs would be cast as well.
    for parent, name, linear in made:
        setattr(parent, name, linear)


def _cast(transformer: nn.Module, dtype: torch.dtype) -> None:
    exact = _exact_parts(transformer, dtype)
    for name, tensor in [*transformer.named_parameters(), *transformer.named_buffers()]:
        stays = _EXACT_BUFFERS.search(name) or (exact is not None and exact.search(name))
        if tensor.is_floating_point() and not stays:
            tensor.data = tensor.data.to(dtype)


def _exact_parts(transformer: Any, dtype: torch.dtype) -> re.Pattern[str] | None:
    """Returns what the library loads in float32 whatever it is asked for; it names parts."""
    names = set(getattr(transformer, "_keep_in_fp32_modules_strict", None) or ())
    if dtype == torch.float16:
        names |= set(getattr(transformer, "_keep_in_fp32_modules", None) or ())
    if dtype == torch.float32 or not names:
        return None
    return re.compile("|".join(rf"(?:^|\.){re.escape(name)}(?:\.|$)" for name in sorted(names)))
