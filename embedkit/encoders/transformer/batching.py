"""Groups rows of similar lengths into padded batches with little padding."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.vectors import TokenBatch

# Kernels like rows of 16 bytes, which are eight numbers in half precision.
_LEAST_WIDTH = 8
# Fixed widths between a power of two and the next are half as many: fill is a few percent.
_WIDTHS_OF_TWO_POWERS = 16
# What a batch costs a GPU beside its tokens, in tokens: nothing is computed between its kernels.
_START = 1_024


def token_batches(lengths: NDArray[np.int32], budget: int) -> list[NDArray[np.intp]]:
    """Groups rows of similar length into batches, longest first.

    Args:
        lengths: Tokens per row, shape (rows,).
        budget: Most tokens of a batch, padding included.

    Returns:
        Row numbers per batch, every row in exactly one of them. Rows times the longest of them is
        at most ``budget``; a single row that is longer stands alone. Equal lengths always give
        equal batches.
    """
    lengths = np.asarray(lengths)
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    batches = []
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + max(budget // longest, 1)
        batches.append(order[start:stop])
        start = stop
    return batches


def fixed_widths(longest: int) -> tuple[int, ...]:
    """Chooses the widths of padded batches on a GPU, whose kernels like them aligned.

    Args:
        longest: Tokens of the longest row that there may be; models know no place behind it.

    Returns:
        Multiples of 8, further apart the wider they are, and ``longest``; rising.
    """
    widths = []
    width = _LEAST_WIDTH
    while width < longest:
        widths.append(width)
        width += max(_LEAST_WIDTH, (1 << width.bit_length()) // _WIDTHS_OF_TWO_POWERS)
    return (*widths, longest)


def width_of(lengths: NDArray[np.int32], widths: Sequence[int]) -> int:
    """Returns the width of a batch of rows.

    Args:
        lengths: Tokens per row, of at least one.
        widths: Widths to choose from, rising. A batch with a row that is longer is as wide as
            that, and one of nothing but empty rows is one token wide where there are none.
    """
    longest = max(int(lengths.max()), 1)
    return next((width for width in widths if width >= longest), longest)


def width_batches(
    lengths: NDArray[np.int32], budget: int, widths: Sequence[int]
) -> list[NDArray[np.intp]]:
    """Groups rows of similar length into batches of a few fixed widths, longest first.

    Of all ways to cut the rows between two widths it takes the one of least cost: the tokens, fill
    included, and a start for each batch.

    Args:
        lengths: Tokens per row, shape (rows,).
        budget: Most tokens of a batch, fill included.
        widths: Widths of batches, rising, as ``fixed_widths`` gives them.

    Returns:
        Row numbers per batch, every row in exactly one of them. Rows times the width is at most
        ``budget``; a single row that is wider stands alone. Equal lengths always give equal
        batches.
    """
    lengths = np.asarray(lengths)
    if not len(lengths):
        return []
    known = np.array(sorted({*widths, width_of(lengths, widths)}))
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    # Rows of one width stand together, and each width may begin a batch.
    places = np.searchsorted(known, lengths[order])
    starts = np.flatnonzero(np.diff(places, prepend=len(known)))
    ends: list[int] = [*starts.tolist(), len(order)]
    found: list[int] = known[places[starts]].tolist()

    def batches_of(first: int, last: int) -> int:
        return -(-(ends[last] - ends[first]) // max(budget // found[first], 1))

    def cost(first: int, last: int) -> int:
        return (ends[last] - ends[first]) * found[first] + batches_of(first, last) * _START

    # Of the rows from each width on: the least cost, and where the next group begins.
    best = [(0, 0)] * len(ends)
    for first in reversed(range(len(starts))):
        best[first] = min(
            (cost(first, last) + best[last][0], last) for last in range(first + 1, len(ends))
        )
    batches = []
    first = 0
    while first < len(starts):
        last = best[first][1]
        rows = order[ends[first] : ends[last]]
        batches += np.array_split(rows, batches_of(first, last))
        first = last
    return batches


def padded(
    batch: TokenBatch, pad_id: int, widths: Sequence[int] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fills rows up to the longest of them, or to the next of some fixed widths.

    Args:
        batch: At least one row.
        pad_id: Id of the fill.
        widths: The fixed widths, rising.

    Returns:
        Ids and attention mask (1 for a token, 0 for fill), int64, each of shape (rows, width);
        a batch of nothing but empty rows has one column of fill at least.
    """
    lengths = batch.lengths
    width = width_of(lengths, widths)
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = batch.input_ids
    return ids, mask.astype(np.int64)


def token_types(batch: TokenBatch, width: int) -> NDArray[np.int64]:
    """Returns the token types of a padded batch of pairs.

    Args:
        batch: Rows with ``seconds``.
        width: Tokens of a padded row.

    Returns:
        1 for a token of the second text, 0 for others and for fill, int64, shape (rows, width).
    """
    places = np.arange(width)
    assert batch.seconds is not None, "of pairs"
    second = (places >= batch.seconds[:, None]) & (places < batch.lengths[:, None])
    return second.astype(np.int64)
