"""Attention of a stream's rows, each to itself alone, put under the models of transformers.

Models find it by its name in their configuration. Cumulative lengths reach it as keyword arguments
of the model's ``forward``, under the names that the library has for them.
"""

import inspect
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedkit.tokens.transformers_library import transformers_library

STREAM_ATTENTION = "embedkit_stream"
"""The name under which models find it."""

_OF_KERNEL = (torch.bfloat16, torch.float16)
"""What FlashAttention computes in."""

_NO_LIMIT = -1
_MULTIPLE = 8
"""FlashAttention takes heads whose width is a multiple of this."""


@contextmanager
def attention_of(transformer: nn.Module, name: str) -> Iterator[None]:
    """Lets a model attend by another function while the body runs.

    Args:
        transformer: A model of transformers.
        name: The function's name, such as ``sdpa`` or ``STREAM_ATTENTION``.
    """
    _register()
    before = [(config, config._attn_implementation) for config in configurations(transformer)]
    if all(was == name for _, was in before):
        yield
        return
    try:
        for config, _ in before:
            config._attn_implementation = name
        yield
    finally:
        for config, was in before:
            config._attn_implementation = was


def configurations(transformer: nn.Module) -> list[Any]:
    """Returns the configurations that layers ask for their attention, each once."""
    found: dict[int, Any] = {}
    for module in transformer.modules():
        config: Any = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            found[id(config)] = config
    return list(found.values())


@lru_cache(maxsize=1)
def _register() -> None:
    # No mask is made for a name that only AttentionInterface knows.
    transformers_library().AttentionInterface.register(STREAM_ATTENTION, _stream_attention)


def _stream_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attends within rows; takes and returns what transformers' attention functions do.

    Args:
        module: The layer, which says whether it is causal unless ``is_causal`` does.
        query: Shape (1, heads, tokens, width); keys and values may have fewer heads.
        key: The same.
        value: The same.
        attention_mask: None.
        scaling: Factor of the products; one by the root of the width unless given.
        sliding_window: One more than how far a token sees to either side, as FlashAttention's
            windows are handed on by transformers; None for no limit.
        is_causal: Whether a token sees none after it.
        others: Among them ``cu_seq_lens_q``, shape (rows + 1,), and ``max_length_q``.
    """
    for unknown in ("softcap", "s_aux", "position_bias", "head_mask"):
        if others.get(unknown) is not None:
            raise NotImplementedError(f"attention with {unknown} on a stream")
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    left = _NO_LIMIT if sliding_window is None else sliding_window - 1
    one, its_keys, its_values = (
        tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value)
    )
    out = attend(
        one,
        its_keys,
        its_values,
        others["cu_seq_lens_q"],
        others["max_length_q"],
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        (left, 0 if causal else left),
    )
    return out.unsqueeze(0), None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    scale: float,
    window: tuple[int, int],
) -> Tensor:
    """Attends within rows: by FlashAttention on a GPU in half precision, else plainly.

    Args:
        query: Shape (tokens, heads, width).
        key: Shape (tokens, heads or a divisor of them, width).
        value: The same.
        offsets: Row i is tokens ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape (rows + 1,).
        longest: No row has more tokens.
        scale: Factor of the products.
        window: How many tokens a token sees before it and after it; -1 for all.

    Returns:
        Shape (tokens, heads, width).
    """
    if query.is_cuda and query.dtype in _OF_KERNEL:
        return _by_kernel(query, key, value, offsets, longest, scale, window)
    out: Tensor = torch.ops.embedkit.attention_per_row(
        query, key, value, offsets, scale, window[0], window[1]
    )
    return out


@torch.library.custom_op("embedkit::attention_per_row", mutates_args=())
def attention_per_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    scale: float,
    left: int,
    right: int,
) -> Tensor:
    """Attends row by row, without the kernel; arguments as of ``attend``."""
    out = torch.zeros_like(query)
    ends = offsets.tolist()
    grouped = query.shape[1] != key.shape[1]
    for start, end in itertools.pairwise(ends):
        if start == end:
            continue
        one, its_keys, its_values = (
            tensor[start:end].transpose(0, 1).unsqueeze(0) for tensor in (query, key, value)
        )
        seen = _seen(end - start, left, right, query.device)
        row = functional.scaled_dot_product_attention(
            one, its_keys, its_values, attn_mask=seen, scale=scale, enable_gqa=grouped
        )
        out[start:end] = row.squeeze(0).transpose(0, 1)
    return out


@attention_per_row.register_fake
def _(query: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(query)


def _seen(length: int, left: int, right: int, device: torch.device) -> Tensor | None:
    """Returns which tokens a token of a row sees, shape (length, length); None for all."""
    if left < 0 and right < 0:
        return None
    places = torch.arange(length, device=device)
    distance = places[None, :] - places[:, None]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if left >= 0:
        seen &= distance >= -left
    if right >= 0:
        seen &= distance <= right
    return seen


def has_kernel() -> bool:
    """Tells whether this torch has the kernel's interface; not whether the GPU can run it."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return hasattr(varlen, "varlen_attn")


@lru_cache(maxsize=1)
def _kernel_parameters() -> frozenset[str]:
    from torch.nn.attention.varlen import varlen_attn

    return frozenset(inspect.signature(varlen_attn).parameters)


def known_parameters() -> str:
    """Returns the names of what this torch's kernel takes, by blanks: a constant for compilers."""
    return " ".join(sorted(_kernel_parameters()))


def _by_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    scale: float,
    window: tuple[int, int],
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    known = known_parameters().split()
    width = query.shape[-1]
    if fill := -width % _MULTIPLE:
        query, key, value = (functional.pad(one, (0, fill)) for one in (query, key, value))
    options: dict[str, Any] = {}
    if "scale" in known:
        options["scale"] = scale
    else:
        # It divides by the root of the width that it is given.
        query = query * (scale * (width + fill) ** 0.5)
    if window == (-1, 0) and "is_causal" in known:
        options["is_causal"] = True
    elif window != (-1, -1):
        if "window_size" not in known:
            raise NotImplementedError("this torch's varlen_attn has no windows")
        options["window_size"] = window
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            each = query.shape[1] // key.shape[1]
            key, value = (one.repeat_interleave(each, dim=1) for one in (key, value))
    if "num_splits" in known:
        # Else the kernel may add up a row's parts in an order that depends on the rows beside it.
        options["num_splits"] = 1
    out: Any = varlen_attn(query, key, value, offsets, offsets, longest, longest, **options)
    attended: Tensor = out[..., :width]
    return attended
