"""Groups rows of similar lengths into padded batches with little padding."""

import numpy as np
from numpy.typing import NDArray

from embedkit.vectors import TokenBatch


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


def padded(batch: TokenBatch, pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Fills rows up to the longest of them.

    Args:
        batch: At least one row.
        pad_id: Id of the fill.

    Returns:
        Ids and attention mask (1 for a token, 0 for fill), int64, each of shape (rows, longest);
        a batch of nothing but empty rows has one column of fill.
    """
    lengths = batch.lengths
    width = max(int(lengths.max()), 1)
    mask = np.arange(width) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = batch.input_ids
    return ids, mask.astype(np.int64)
