"""Token vectors to one vector per text: a function per mode, as sentence-transformers defines it.

Every function takes ``hidden``, shape (rows, tokens, width), float32, and ``mask``, shape
(rows, tokens), 1 where a token counts and 0 elsewhere, and returns shape (rows, width).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""The names that ``pool`` knows, in the order in which old model directories join them."""

_TINY = 1e-9


def without_prompt(mask: Tensor, prompt_length: int) -> Tensor:
    """Returns the mask with the first ``prompt_length`` tokens of every row taken out."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return mask * (positions >= prompt_length).to(mask.dtype)


def pool(hidden: Tensor, mask: Tensor, modes: Sequence[str]) -> Tensor:
    """Pools by one mode, or by several joined along the components.

    Args:
        hidden: Token vectors, float32, shape (rows, tokens, width).
        mask: 1 where a token counts, shape (rows, tokens).
        modes: Names from ``POOLING_MODES``.

    Returns:
        Vectors, float32, shape (rows, width times the number of modes).
    """
    return torch.cat([_POOLERS[mode](hidden, mask) for mode in modes], dim=-1)


def _cls(hidden: Tensor, mask: Tensor) -> Tensor:
    return _at(hidden, mask.to(torch.int32).argmax(dim=1))


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_TINY)


def _mean_sqrt_len_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_TINY).sqrt()


def _weightedmean(hidden: Tensor, mask: Tensor) -> Tensor:
    # Position weights (Muennighoff, SGPT, 2022) count from the row's start, so a prompt that is
    # left out leaves the weights of the other tokens as they were.
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    weights = (mask * positions).unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=_TINY)


def _lasttoken(hidden: Tensor, mask: Tensor) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * positions).to(torch.int32).argmax(dim=1)
    present = mask.amax(dim=1, keepdim=True).to(hidden.dtype)
    return _at(hidden, last) * present


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    index = places.to(torch.int64).view(-1, 1, 1).expand(-1, 1, hidden.shape[2])
    return hidden.gather(1, index).squeeze(1)


_POOLERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len_tokens,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}
