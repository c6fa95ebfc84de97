"""``torch.compile`` for a model's repeated layers, as they run on a stream.

One layer is compiled and serves for all that are equal, so that starting costs a layer's time and
not the model's: on two cores, for a BERT of any depth, some 10 seconds of CPU at first, and 3 to 4
where an earlier process left it in torch's own cache (``TORCHINDUCTOR_CACHE_DIR``; a folder for
temporary files unless set). ModernBERT has three kinds of layers, most others one.

Lengths are dynamic, those of streams and of their longest rows, and so is the number of rows:
products go to cuBLAS, which chooses by the true shape either way, and the generated kernels loop
over the hidden size, which is static, so a length known beforehand would save them a mask at the
price of a compilation for each length.

What it saves is passes over memory. Of a layer of BERT, residual and LayerNorm become one kernel of
two, while bias belongs to the product and GELU stays a kernel of its own, with it or without: a
tenth of the memory traffic, so that CUDA graphs alone come near to it. Of layers with rotary
positions, RMSNorm and gated units, written as some 30 small kernels, it is more than half. Scaling
and rounding to float8 joins the kernels before them, once for query, key and value. Only these two
are compiled.
"""

import logging
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch._inductor import config as inductor_config
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError

from embedkit.encoders.transformer.float8 import Float8Linear
from embedkit.encoders.transformer.layers import repeated_layers
from embedkit.encoders.transformer.stream.attention import known_parameters
from embedkit.errors.foreign import one_line

_log = logging.getLogger(__name__)

_FAILURES = (TorchDynamoException, ConstraintViolationError, FailOnRecompileLimitHit)
"""What torch raises where it cannot compile, as opposed to what the model itself raises."""

_SAME_BYTES: dict[str, Any] = {
    name: True for name in ("deterministic",) if hasattr(inductor_config, name)
}
"""Options of the compiler, where it has them: no kernel is chosen by how fast it was just now, as
another process would choose another, whose sums have other last bits."""

_OFFSETS = ("cu_seq_lens_q", "cu_seq_lens_k")
_LONGEST = ("max_length_q", "max_length_k")
"""Keyword arguments of a layer that runs on a stream: cumulative lengths, and the longest row's."""


def pays(transformer: nn.Module) -> bool:
    """Tells whether a model's layers gain more than they cost at the start, by what is in them."""
    return any(
        isinstance(part, Float8Linear) or type(part).__name__.endswith("RotaryEmbedding")
        for part in transformer.modules()
    )


def compile_layers(transformer: nn.Module, backend: str | Callable[..., Any] = "inductor") -> bool:
    """Lets a model's repeated layers run compiled on streams; padded batches run as before.

    Compilation happens at the first call. Where it fails the layers run uncompiled from then on,
    and the log says so once.

    Args:
        transformer: A model of transformers, whose layers get cumulative lengths on a stream.
        backend: What compiles, as ``torch.compile`` takes it.

    Returns:
        Whether the model has such layers.
    """
    # Not traced, as what looks at signatures is not in every torch.
    as_constant: Any = torch.compiler.assume_constant_result
    as_constant(known_parameters)
    layers = repeated_layers(transformer)
    compiled = _Compiled(backend)
    for layer in layers:
        compiled.put_under(layer)
    return bool(layers)


class _Compiled:
    """What the layers of one model share: what is compiled, and whether that worked."""

    def __init__(self, backend: str | Callable[..., Any]) -> None:
        # What is compiled is kept by the code object, with a limit to it: one for each model.
        own = FunctionType(_run_traced.__code__.replace(), globals(), _run_traced.__name__)
        options = _SAME_BYTES if backend == "inductor" else None
        self._run = torch.compile(own, fullgraph=True, backend=backend, options=options)
        self._failed = False

    def put_under(self, layer: nn.Module) -> None:
        """Makes a layer's calls on streams run what is compiled."""
        for part in layer.modules():
            # Once a model has returned hidden layers, hooks stay behind that would note the weights
            # of attention as well, which cannot be traced. The layer's own are outside of it.
            if part is not layer:
                part._forward_hooks.clear()

        def forward(*arguments: Any, **keywords: Any) -> Any:
            if _OFFSETS[0] not in keywords or self._failed:
                return _run(layer, arguments, keywords)
            longest = torch.empty(keywords[_LONGEST[0]], 0)
            others = {name: value for name, value in keywords.items() if name not in _LONGEST}
            _mark_lengths(arguments, others, longest)
            try:
                return self._run(layer, arguments, others, longest)
            except _FAILURES as error:
                self._failed = True
                _log.warning(
                    "the model's layers run uncompiled, which is slower, as torch.compile failed: "
                    "%s",
                    one_line(error),
                )
            return _run(layer, arguments, keywords)

        layer.forward = forward


def _run(layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return type(layer).forward(layer, *arguments, **keywords)


def _run_traced(
    layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], longest: Tensor
) -> Any:
    # A number is compiled anew for each of its values; the length of a tensor is not.
    return _run(layer, arguments, keywords | dict.fromkeys(_LONGEST, longest.shape[0]))


def _mark_lengths(arguments: tuple[Any, ...], keywords: dict[str, Any], longest: Tensor) -> None:
    """Tells torch what changes: the lengths of the stream and of its longest row, and the rows."""
    torch._dynamo.mark_dynamic(longest, 0)
    tokens, *others = _tensors([arguments, keywords])
    for tensor in (tokens, *others):
        if any(tensor is keywords.get(name) for name in _OFFSETS):
            torch._dynamo.mark_dynamic(tensor, 0)
        elif tensor.ndim > 1 and tensor.shape[1] == tokens.shape[1]:
            torch._dynamo.mark_dynamic(tensor, 1)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
