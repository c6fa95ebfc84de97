"""Where a sequence is cut, so that what is put in or taken out moves only the cuts beside it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray


def borders(
    weights: ArrayLike, hashes: NDArray[np.uint64], most: int, most_items: int | None = None
) -> Iterator[int]:
    """Cuts a sequence into pieces of a bounded weight at places that its items' hashes decide.

    A piece is at least half full and ends before the item with the smallest hash of all that could
    begin the next one. Cuts that were moved by a change fall on old ones again soon, as the same
    item is the smallest from wherever it is looked for: after each piece with a chance of four in
    ten, so all but one in 150 changes move no more than ten cuts.

    Args:
        weights: Of each item, not negative, shape (n,).
        hashes: Of each item, which should tell it from its neighbours, uint64, shape (n,).
        most: Weight of a piece. An item that is heavier is a piece of its own; before one that
            does not fit any more a piece may be less than half full, as the last one may.
        most_items: Items of a piece, if they are to be bounded as well.

    Yields:
        The end of each piece; the last one is ``n``.
    """
    ends = np.cumsum(np.asarray(weights), dtype=np.int64)
    count, start = len(ends), 0
    while start < count:
        before = int(ends[start - 1]) if start else 0
        last = int(np.searchsorted(ends, before + most, side="right"))
        first = int(np.searchsorted(ends, before + (most + 1) // 2, side="left")) + 1
        if most_items is not None:
            last = min(last, start + most_items)
            first = min(first, start + (most_items + 1) // 2)
        last = max(last, start + 1)
        if last < count:
            # What may begin the next piece: the items at first to last, both included.
            first = min(first, last)
            last -= int(np.argmin(hashes[first : last + 1][::-1]))
        yield last
        start = last
