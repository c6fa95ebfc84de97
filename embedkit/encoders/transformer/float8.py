"""Linear layers in 8-bit floating point (e4m3), which GPUs multiply twice as fast as bfloat16.

Weights have a scale for each output, made once from float32; what is multiplied with them has one
for each token, made anew each time. Products are summed in float32 and given out in bfloat16. On
a CPU the same values are multiplied in float32, which is slow and shows what the precision costs.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from embedkit.encoders.transformer.layers import repeated_layers
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line

FORMAT = torch.float8_e4m3fn
_GREATEST = torch.finfo(FORMAT).max
# Of zeros alone; what is divided by it stays zero.
_LEAST_SCALE = torch.finfo(torch.float32).tiny
_MULTIPLE = 16
"""Tensor cores take sizes that are multiples of this; other layers stay in bfloat16."""


class Float8Linear(nn.Module):
    """A linear layer whose weights and inputs are e4m3.

    Args:
        linear: The layer, in float32.
    """

    weight: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight, scales = scaled_rows(linear.weight.detach())
        bias = None if linear.bias is None else linear.bias.detach().to(torch.bfloat16)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", scales.t().contiguous())
        self.register_buffer("bias", bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps vectors, shape (..., in_features), to bfloat16, shape (..., out_features)."""
        rows, scales = scaled_rows(hidden.reshape(-1, self.in_features))
        product = _by_tensor_cores if hidden.is_cuda else _in_float32
        out = product(rows, self.weight.t(), scales, self.scales, self.bias)
        return out.view(*hidden.shape[:-1], self.out_features)


def scaled_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds rows to e4m3 after dividing each by a scale that makes its greatest value 448.

    Args:
        values: Shape (rows, width). One value that is not finite makes its whole row not finite.

    Returns:
        The rounded values, of the same shape, and the scales, float32, shape (rows, 1).
    """
    exact = values.float()
    scales = (exact.abs().amax(dim=-1, keepdim=True) / _GREATEST).clamp(min=_LEAST_SCALE)
    # Rounding of the scale may put the greatest value above what the format holds, which is NaN.
    return (exact / scales).clamp(-_GREATEST, _GREATEST).to(FORMAT), scales


def _by_tensor_cores(
    rows: Tensor, weight: Tensor, row_scales: Tensor, scales: Tensor, bias: Tensor | None
) -> Tensor:
    out: Tensor = torch._scaled_mm(
        rows, weight, scale_a=row_scales, scale_b=scales, bias=bias, out_dtype=torch.bfloat16
    )
    return out


def _in_float32(
    rows: Tensor, weight: Tensor, row_scales: Tensor, scales: Tensor, bias: Tensor | None
) -> Tensor:
    product = (rows.float() @ weight.float()) * scales * row_scales
    return (product if bias is None else product + bias).to(torch.bfloat16)


def float8_linears(transformer: Any) -> list[tuple[nn.Module, str, Float8Linear]]:
    """Makes a float8 layer of every linear one in a model's layers.

    Args:
        transformer: A model of transformers, in float32.

    Returns:
        What is to stand in the place of each: its parent, its name there, and the layer.

    Raises:
        ConfigError: It has no such layers.
    """
    kept = {
        name
        for list_name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict")
        for name in getattr(transformer, list_name, None) or ()
    }
    made = [
        (parent, name, Float8Linear(child))
        for layer in repeated_layers(transformer)
        for parent in layer.modules()
        for name, child in parent.named_children()
        if _fits(child) and name not in kept
    ]
    if not made:
        raise ConfigError(
            f"precision is float8, but {type(transformer).__name__} has no linear layers for it; "
            "take precision bfloat16"
        )
    return made


def _fits(module: nn.Module) -> TypeGuard[nn.Linear]:
    if type(module) is not nn.Linear:
        return False
    return module.in_features % _MULTIPLE == 0 and module.out_features % _MULTIPLE == 0


def check_device(device: str) -> None:
    """Multiplies a little in float8.

    Args:
        device: ``cuda`` or ``cpu``, where it is emulated.

    Raises:
        ConfigError: It cannot.
    """
    linear = nn.Linear(4 * _MULTIPLE, _MULTIPLE)
    try:
        Float8Linear(linear).to(device)(torch.ones(_MULTIPLE, 4 * _MULTIPLE, device=device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConfigError(
            f"precision is float8, but this torch cannot multiply it on {device} "
            f"({one_line(error, only_first=True)}); take precision bfloat16"
        ) from error
