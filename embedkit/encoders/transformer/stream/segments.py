"""Token vectors of a stream to one vector per row: each pooling mode as sums over its rows.

The modes are those of ``embedkit.encoders.transformer.pooling``, which pools padded batches. All
sums are in float32 and in the order of the tokens, so that equal streams give equal bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-9


@dataclass(frozen=True)
class Segments:
    """Where the rows of a stream stand, and which of their tokens count.

    Attributes:
        places: Place of each token in its row, from 0, shape (tokens,).
        offsets: Row i is tokens ``offsets[i]`` up to ``offsets[i + 1]``, shape (rows + 1,).
        skipped: Leading tokens of every row that do not count.
    """

    places: Tensor
    offsets: Tensor
    skipped: int = 0

    @property
    def counts(self) -> Tensor:
        """Tokens of each row that count, shape (rows,)."""
        return (self.offsets[1:] - self.offsets[:-1] - self.skipped).clamp(min=0)

    def first(self) -> Tensor:
        """Places of the rows' first tokens that count; of the first of all where none does."""
        starts = self.offsets[:-1] + self.skipped * (self.counts > 0)
        return starts.clamp(max=len(self.places) - 1)

    def last(self) -> Tensor:
        """Places of the rows' last tokens."""
        return (self.offsets[1:] - 1).clamp(min=0)

    def counted(self, hidden: Tensor, instead: float) -> Tensor:
        """Returns token vectors with others in the place of those that do not count."""
        if not self.skipped:
            return hidden
        return hidden.masked_fill((self.places < self.skipped).unsqueeze(-1), instead)

    def reduce(self, values: Tensor, how: str) -> Tensor:
        """Reduces the values of each row's tokens, shape (tokens, width), to (rows, width)."""
        reduced: Tensor = torch.segment_reduce(
            values, how, offsets=self.offsets.long(), axis=0, unsafe=True
        )
        return reduced


def pool_segments(hidden: Tensor, segments: Segments, modes: Sequence[str]) -> Tensor:
    """Pools by one mode, or by several joined along the components.

    Args:
        hidden: Token vectors, float32, shape (tokens, width).
        segments: The rows.
        modes: Names from ``POOLING_MODES``.

    Returns:
        Vectors, float32, shape (rows, width times the number of modes).
    """
    return torch.cat([_POOLERS[mode](hidden, segments) for mode in modes], dim=-1)


def _cls(hidden: Tensor, segments: Segments) -> Tensor:
    return hidden[segments.first()]


def _max(hidden: Tensor, segments: Segments) -> Tensor:
    return segments.reduce(segments.counted(hidden, float("-inf")), "max")


def _sum(hidden: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    summed = segments.reduce(segments.counted(hidden, 0.0), "sum")
    return summed, segments.counts.unsqueeze(-1).to(hidden.dtype).clamp(min=_TINY)


def _mean(hidden: Tensor, segments: Segments) -> Tensor:
    summed, counts = _sum(hidden, segments)
    return summed / counts


def _mean_sqrt_len_tokens(hidden: Tensor, segments: Segments) -> Tensor:
    summed, counts = _sum(hidden, segments)
    return summed / counts.sqrt()


def _weightedmean(hidden: Tensor, segments: Segments) -> Tensor:
    weights = segments.counted((segments.places + 1).unsqueeze(-1).to(hidden.dtype), 0.0)
    weighted = segments.counted(hidden, 0.0) * weights
    return segments.reduce(weighted, "sum") / segments.reduce(weights, "sum").clamp(min=_TINY)


def _lasttoken(hidden: Tensor, segments: Segments) -> Tensor:
    present = (segments.counts > 0).unsqueeze(-1).to(hidden.dtype)
    return hidden[segments.last()] * present


_POOLERS: dict[str, Callable[[Tensor, Segments], Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len_tokens,
    "weightedmean": _weightedmean,
    "lasttoken": _lasttoken,
}
