"""Linear layers of 8 bits, as OpenVINO makes them of torch's fake quantization.

Weights have a step for each output, made from float32; inputs have one for the layer, by what a
sample of the corpus gave it. Everything else computes as it does without.

A few components of what a layer is given are many times as large as others, which would leave those
a few steps. So they are halved some times before, and the weights that they meet doubled as often,
which changes no product: SmoothQuant (Xiao et al., 2023), by powers of two, which round nothing.

Weights are -64 to 64. A processor without VNNI adds two products of an input of 0 to 255 and such
a weight in 16 bits, which just hold them; with one bit more it would cut sums off, and its vectors
would be others than those of newer processors.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.encoders.spec import LayerRanges
from embedkit.encoders.transformer.layers import repeated_layers
from embedkit.errors import ConfigError

_MOST_WEIGHT = 64
_STEPS = 255
_MIGRATION = 0.75
"""How much of the difference between components goes to the weights: SmoothQuant's alpha."""
_MOST_HALVED = 15
_USUALLY_HALVED = 8
_LEAST_STEP = 1e-30
"""Of zeros alone, which stay zeros."""


class Int8Linear(nn.Module):
    """A linear layer whose weights and inputs are rounded to steps of 8 bits.

    Args:
        linear: The layer, in float32.
        least: The least value that it is given when halved; what is below becomes this.
        greatest: The greatest one.
        halved: How often each component of its input is halved, a hexadecimal digit each.
    """

    weight: Tensor
    shares: Tensor
    steps: Tensor
    zeros: Tensor

    def __init__(self, linear: nn.Linear, least: float, greatest: float, halved: str) -> None:
        super().__init__()
        shares = torch.tensor([0.5 ** int(digit, 16) for digit in halved])
        self.bias = linear.bias
        self.register_buffer("weight", linear.weight.detach() / shares)
        self.register_buffer("shares", shares)
        steps = self.weight.abs().amax(dim=1) / _MOST_WEIGHT
        self.register_buffer("steps", steps.clamp(min=_LEAST_STEP))
        self.register_buffer("zeros", torch.zeros(len(steps), dtype=torch.int32))
        # Zero has a step of its own, as otherwise fill and what is cut off would be off by a half.
        low, high = min(least, 0.0), max(greatest, 0.0)
        self.step = max((high - low) / _STEPS, _LEAST_STEP)
        self.zero = round(-low / self.step)

    def forward(self, hidden: Tensor) -> Tensor:
        """Maps vectors, shape (..., in_features), to shape (..., out_features)."""
        halved = hidden * self.shares
        rounded = torch.fake_quantize_per_tensor_affine(halved, self.step, self.zero, 0, _STEPS)
        weight = torch.fake_quantize_per_channel_affine(
            self.weight, self.steps, self.zeros, 0, -_MOST_WEIGHT, _MOST_WEIGHT
        )
        return nn.functional.linear(rounded, weight, self.bias)


class Observer:
    """Sees what the linear layers of a model are given.

    Args:
        transformer: A model of transformers, in float32.
    """

    def __init__(self, transformer: nn.Module) -> None:
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}
        self._linears = {name: linear for name, _, _, linear in _linears(transformer)}
        self._hooks = [
            linear.register_forward_pre_hook(self._hook(name))
            for name, linear in self._linears.items()
        ]

    def ranges(self) -> LayerRanges:
        """Returns the ranges that were seen so far, and sees no more.

        A layer is left out that was given nothing, or something that is not finite.
        """
        while self._hooks:
            self._hooks.pop().remove()
        return tuple(
            (name, *_range(least, greatest, self._linears[name].weight))
            for name, (least, greatest) in self._seen.items()
            if least.isfinite().all() and greatest.isfinite().all()
        )

    def _hook(self, name: str) -> Any:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not inputs[0].numel():
                return
            rows = inputs[0].flatten(0, -2)
            found = rows.amin(dim=0), rows.amax(dim=0)
            least, greatest = self._seen.get(name, found)
            # Of torch's functions NaN comes out again; of Python's it depends on the order.
            self._seen[name] = torch.minimum(found[0], least), torch.maximum(found[1], greatest)

        return see


def _range(least: Tensor, greatest: Tensor, weight: Tensor) -> tuple[float, float, str]:
    """Returns the range of a layer, and how often each component is halved.

    Args:
        least: The least value of each component, shape (in_features,).
        greatest: The greatest one.
        weight: The layer's weights, shape (out_features, in_features).
    """
    given = torch.maximum(least.abs(), greatest.abs()).clamp(min=_LEAST_STEP).double()
    met = weight.detach().abs().amax(dim=0).clamp(min=_LEAST_STEP).double()
    sizes = torch.log2(given) * _MIGRATION - torch.log2(met) * (1 - _MIGRATION)
    halved = (sizes - sizes.median()).round().to(torch.int64) + _USUALLY_HALVED
    halved = halved.clamp(0, _MOST_HALVED)
    shares = 0.5**halved
    digits = "".join(f"{count:x}" for count in halved.tolist())
    return float((least * shares).min()), float((greatest * shares).max()), digits


def to_int8(transformer: nn.Module, ranges: LayerRanges) -> None:
    """Rounds the linear layers of a model to 8 bits, in place.

    Args:
        transformer: A model of transformers, in float32.
        ranges: What its layers are given; one that is not among them stays as it is.

    Raises:
        ConfigError: It has none of these layers.
    """
    known = {name: (least, greatest, halved) for name, least, greatest, halved in ranges}
    made = [
        (parent, attribute, Int8Linear(linear, *known[name]))
        for name, parent, attribute, linear in _linears(transformer)
        if name in known
    ]
    if not made:
        raise ConfigError(
            f"precision is int8, but {type(transformer).__name__} has no linear layers for it; "
            "take precision float32"
        )
    for parent, attribute, linear in made:
        setattr(parent, attribute, linear)


def _linears(transformer: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """Yields each linear layer's name, its parent and its name there, and the layer itself."""
    for number, layer in enumerate(repeated_layers(transformer)):
        for above, parent in layer.named_modules():
            for attribute, child in parent.named_children():
                if type(child) is nn.Linear:
                    name = ".".join(filter(None, (str(number), above, attribute)))
                    yield name, parent, attribute, child
