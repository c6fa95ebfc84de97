"""Encoder calls: which rows go together in one."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.spec import MixedCalls
from embedkit.vectors import TokenBatch

_MOST_CALL_ROWS = 4096


def call_batches(
    batch: TokenBatch,
    call_tokens: int,
    mixed: MixedCalls = False,
    only: NDArray[np.intp] | None = None,
) -> Iterator[tuple[NDArray[np.intp], TokenBatch]]:
    """Cuts rows into encoder calls: of similar lengths, longest first, or each of all lengths.

    A call has at most 4,096 rows: of very short rows it would bring back more bytes of vectors
    than are worth holding, in the encoder, on the way and here.

    Args:
        batch: Rows in any order.
        call_tokens: Most tokens of a call; a longer row is a call of its own.
        mixed: Whether every call is to have rows of all lengths, as encoders that pack rows want
            it: in calls of equal size, or in ``full`` ones and one with the rest. Calls with room
            for no more than a few rows are cut by length all the same.
        only: Numbers of the rows to take; all unless given.

    Yields:
        Row numbers and their tokens, so that every row is in exactly one call. The cut depends on
        the rows alone, so a repeated block is padded, and therefore encoded, as it was before.
    """
    taken = np.arange(len(batch)) if only is None else only
    for places in _calls(batch.lengths[taken], call_tokens, mixed):
        rows = taken[places]
        yield rows, batch.take(rows)


def _calls(
    lengths: NDArray[np.int32], call_tokens: int, mixed: MixedCalls
) -> Iterator[NDArray[np.intp]]:
    """Yields the rows of each call, see ``call_batches``."""
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    if mixed and len(order) and (longest := int(lengths[order[0]])) <= call_tokens // 2:
        dealt = _full_calls(lengths[order], call_tokens) if mixed == "full" else None
        if dealt is None:
            # Dealt in turn, no call has more than its share and the longest row on top.
            by_tokens = -(-int(ends[-1]) // (call_tokens - longest))
            calls = max(1, by_tokens, -(-len(order) // _MOST_CALL_ROWS))
            dealt = np.arange(len(order)) % calls
        by_call = order[np.argsort(dealt, kind="stable")]
        yield from np.split(by_call, np.cumsum(np.bincount(dealt))[:-1])
        return
    start = 0
    while start < len(order):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + call_tokens, side="right")))
        stop = min(stop, start + _MOST_CALL_ROWS)
        yield order[start:stop]
        start = stop


def _full_calls(lengths: NDArray[np.int32], call_tokens: int) -> NDArray[np.int64] | None:
    """Deals rows to as many full calls as there can be, and to one with the rest.

    Args:
        lengths: Tokens per row, falling.
        call_tokens: Most tokens of a call.

    Returns:
        The call of each row, from 0; None where this way leads to none that are small enough.
    """
    longest, tokens = int(lengths[0]), int(lengths.sum(dtype=np.int64))
    places = np.arange(len(lengths))
    # A call comes out some tokens above or below its share, seldom by a whole row.
    for room in (call_tokens - longest * part // 32 for part in (0, 1, 4, 16, 32)):
        # Of 3.4 calls' worth of rows, each of three calls gets one in 3.4, and the last what is
        # left between them: dealt forth and back, as the first call of a round gets longer rows.
        worth, of = max((tokens, room), (len(lengths), _MOST_CALL_ROWS), key=lambda f: f[0] / f[1])
        rounds, turns = np.divmod(places * of, worth)
        dealt: NDArray[np.int64] = np.where(rounds % 2, worth - 1 - turns, turns) // of
        most_tokens = np.bincount(dealt, weights=lengths).max()
        if most_tokens <= call_tokens and np.bincount(dealt).max() <= _MOST_CALL_ROWS:
            return dealt
    return None
