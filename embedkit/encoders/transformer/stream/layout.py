"""Cuts rows of tokens into streams of a few fixed lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.transformer.waiting_rows import WaitingRows
from embedkit.vectors import TokenBatch

_MOST_LENGTHS = 4
_RATIO = 4
# Matrix products are computed in tiles of so many rows.
_TILE = 128
# Shorter streams take a GPU as long as this one: it starts kernels and hardly computes.
_SHORTEST = 512
# A call is on average half of the shortest longer than its rows.
_LONGEST_LAST = 1_024
# What a stream costs beside its tokens, in tokens.
_START = 512
_LEAST_SLOTS = 16
# The attention kernel starts a block for every 128 tokens that a row might have, in every slot.
_LEAST_LONGEST = 512


@dataclass(frozen=True)
class Stream:
    """Rows one after the other, filled up to a fixed length by dummy rows.

    Attributes:
        rows: Numbers of the batch's rows in it, in the order in which they stand, shape (rows,).
        input_ids: Tokens of all rows, then those of the dummy rows, int32, shape (length,).
        places: Place of each token in its own row, from 0, in dummy rows as well, int32, shape
            (length,).
        offsets: Row i has the tokens from ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape
            (slots + 1,). The batch's rows come first, then dummy rows, then empty ones up to a
            power of two, at least 16.
        longest: No row has more tokens, dummy rows included: a power of two, at least 512, or the
            most that there may be.
    """

    rows: NDArray[np.intp]
    input_ids: NDArray[np.int32]
    places: NDArray[np.int32]
    offsets: NDArray[np.int32]
    longest: int


def stream_lengths(budget: int, longest: int) -> tuple[int, ...]:
    """Chooses the lengths of streams.

    Args:
        budget: Most tokens of a stream.
        longest: Tokens of the longest row that there may be.

    Returns:
        At most four lengths, falling. The first is the budget, or ``longest`` where that is more,
        less what is no whole tile of a matrix product; each that follows is about a quarter of the
        one before.
    """
    first = max(budget, longest)
    if (whole := first // _TILE * _TILE) >= max(longest, _SHORTEST):
        first = whole
    lengths = [first]
    while len(lengths) < _MOST_LENGTHS:
        length = lengths[-1] // _RATIO
        if len(lengths) == _MOST_LENGTHS - 1:
            length = min(length, _LONGEST_LAST)
        if length < _SHORTEST:
            break
        lengths.append(length // _TILE * _TILE)
    return tuple(lengths)


def streams(
    batch: TokenBatch, lengths: Sequence[int], longest: int, pad_id: int
) -> Iterator[Stream]:
    """Puts rows into streams, long rows first.

    Args:
        batch: The rows.
        lengths: Lengths that a stream may have, falling, as ``stream_lengths`` gives them.
        longest: Most tokens of a row, dummy rows included.
        pad_id: Id of the dummy rows' tokens.

    Yields:
        Streams, so that every row is in exactly one of them, whole. Equal batches always give
        equal streams.

    Raises:
        ValueError: A row is longer than ``longest``, or than the longest stream.
    """
    waiting = WaitingRows(batch.lengths, np.arange(len(batch)))
    most = min(longest, lengths[0])
    if waiting and waiting.longest > most:
        raise ValueError(f"a row of {waiting.longest} tokens, where the longest may have {most}")
    while waiting:
        # A stream that others follow may stay emptier by as much as no row that waits fits into.
        wanted = _next_length(waiting.tokens, lengths, _START + waiting.shortest)
        length = next(n for n in reversed(lengths) if n >= max(wanted, waiting.longest))
        yield _stream(batch, waiting.take(length, len(batch)), length, longest, pad_id)


def _next_length(tokens: int, lengths: Sequence[int], start: int) -> int:
    """Returns the length of the first of the streams that take some tokens at the least cost."""
    length, shorter = lengths[0], lengths[1:]
    if tokens >= length:
        return length
    if shorter and _cost(tokens, shorter, start) < length + start:
        return _next_length(tokens, shorter, start)
    return length


def _cost(tokens: int, lengths: Sequence[int], start: int) -> int:
    """Returns what streams for some tokens cost at least: their lengths, and a start for each."""
    length, shorter = lengths[0], lengths[1:]
    whole, rest = divmod(tokens, length)
    last = 0
    if rest:
        last = min([length + start, *([_cost(rest, shorter, start)] if shorter else [])])
    return whole * (length + start) + last


def _stream(
    batch: TokenBatch, rows: NDArray[np.intp], length: int, longest: int, pad_id: int
) -> Stream:
    taken = batch.take(rows)
    used = len(taken.input_ids)
    own = max(_LEAST_LONGEST, 1 << (int(taken.lengths.max()) - 1).bit_length())
    longest = min(longest, own)
    dummies = -(-(length - used) // longest)
    slots = max(_LEAST_SLOTS, 1 << (len(rows) + dummies - 1).bit_length())
    offsets = np.full(slots + 1, length, dtype=np.int32)
    offsets[: len(rows) + 1] = taken.offsets
    offsets[len(rows) : len(rows) + dummies] = used + longest * np.arange(dummies)
    input_ids = np.full(length, pad_id, dtype=np.int32)
    input_ids[:used] = taken.input_ids
    places = np.arange(length, dtype=np.int32) - np.repeat(offsets[:-1], np.diff(offsets))
    return Stream(rows, input_ids, places, offsets, longest)
