"""Token vectors to one vector per span, wherever the spans' rows stand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from embedkit.vectors import TokenSpans

_ONE_TOKEN = {"cls": 0, "lasttoken": -1}
"""Modes that take one token of a span, and which."""


@dataclass(frozen=True)
class SpanTokens:
    """Where the tokens of spans stand among those that are computed together.

    Attributes:
        places: Places of the tokens of all spans, one span after the other, int64, shape
            (tokens,); those alone that the spans' vectors are made of.
        offsets: Span i has the places from ``offsets[i]`` up to ``offsets[i + 1]``, int64, shape
            (spans + 1,). None where each has exactly one.
    """

    places: NDArray[np.int64]
    offsets: NDArray[np.int64] | None = None


def span_tokens(
    spans: TokenSpans, row_places: NDArray[np.integer[Any]], modes: Sequence[str]
) -> SpanTokens:
    """Finds the tokens that the vectors of spans are made of.

    Args:
        spans: The spans of some rows.
        row_places: Where each row's first token stands, shape (rows,).
        modes: How they are pooled.
    """
    starts = np.repeat(row_places, np.diff(spans.offsets)).astype(np.int64)
    lengths = spans.ends.astype(np.int64) - spans.starts
    ends = starts + spans.ends
    starts += spans.starts
    if (lengths == 1).all():
        return SpanTokens(starts)
    if len(modes) == 1 and modes[0] in _ONE_TOKEN:
        return SpanTokens(ends - 1 if _ONE_TOKEN[modes[0]] else starts)
    offsets = np.zeros(len(spans) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return SpanTokens(places, offsets)


def pool_spans(
    hidden: Tensor, places: Tensor, offsets: Tensor | None, modes: Sequence[str]
) -> Tensor:
    """Pools by one mode, or by several joined along the components.

    A span's vector depends on its own tokens alone, added up in their order.

    Args:
        hidden: Token vectors, float32, shape (tokens, width).
        places: See ``SpanTokens``; on the device of ``hidden``.
        offsets: The same.
        modes: Names from ``POOLING_MODES``, each of which treats a span as a row of its own.

    Returns:
        Vectors, float32, shape (spans, width times the number of modes).
    """
    if offsets is None:
        vectors = hidden.index_select(0, places)
        return vectors if len(modes) == 1 else vectors.repeat(1, len(modes))
    return torch.cat([_POOLERS[mode](hidden, places, offsets) for mode in modes], dim=-1)


def _cls(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    return hidden.index_select(0, places[offsets[:-1]])


def _lasttoken(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    return hidden.index_select(0, places[offsets[1:] - 1])


def _max(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    return _bags(hidden, places, offsets, "max")


def _mean(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    return _bags(hidden, places, offsets, "mean")


def _mean_sqrt_len_tokens(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    lengths = offsets.diff().unsqueeze(-1).to(hidden.dtype)
    return _bags(hidden, places, offsets, "sum") / lengths.sqrt()


def _weightedmean(hidden: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
    lengths = offsets.diff()
    count = torch.arange(1, len(places) + 1, device=places.device)
    weights = count - offsets[:-1].repeat_interleave(lengths, output_size=len(places))
    summed = functional.embedding_bag(
        places,
        hidden,
        offsets,
        mode="sum",
        per_sample_weights=weights.to(hidden.dtype),
        include_last_offset=True,
    )
    return summed / (lengths * (lengths + 1) / 2).unsqueeze(-1).to(hidden.dtype)


def _bags(hidden: Tensor, places: Tensor, offsets: Tensor, how: str) -> Tensor:
    # What is called a bag of embeddings is a span of token vectors here: they are added up without
    # a copy of each.
    return functional.embedding_bag(places, hidden, offsets, mode=how, include_last_offset=True)


_POOLERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len_tokens,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}
