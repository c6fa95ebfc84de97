"""Rows whose vectors an earlier version has, beside rows that are encoded."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.dataset.sources import MOST_SOURCES
from embedkit.flow.earlier_rows import Taken
from embedkit.flow.windows import is_windowed
from embedkit.formats.reused import Reused
from embedkit.vectors import Vectors

Encode = Callable[[pa.RecordBatch], tuple[Vectors, int]]
"""Returns the vectors of rows, and the tokens that were sent to encoders for them."""


def take_or_encode(rows: pa.RecordBatch, taken: Taken, encode: Encode) -> tuple[Vectors, int]:
    """Encodes the rows whose vectors were not taken over.

    Args:
        rows: Rows of a TokenBlock.
        taken: What an earlier version has of them.
        encode: Encodes rows.

    Returns:
        The vectors of all rows, and the tokens that were sent to encoders.
    """
    if not taken.pieces:
        return encode(rows)
    mask = taken.mask
    asked = _to_encode(rows, mask)
    if not len(asked):
        return Vectors.joined(taken.pieces), 0
    found, tokens = encode(rows.take(pa.array(asked)))
    wanted = np.flatnonzero(~mask[asked])
    if len(wanted) < len(asked):
        asked, found = asked[wanted], found.take(wanted)
    return Vectors.joined([*taken.pieces, (asked, found)]), tokens


def _to_encode(rows: pa.RecordBatch, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Returns the numbers of the rows without vectors, and of all that share a window with one."""
    if not is_windowed(rows):
        return np.flatnonzero(~mask)
    lengths = pc.list_value_length(rows.column("input_ids")).to_numpy()
    # The first row of a window has its tokens.
    windows = np.cumsum(lengths > 0) - 1
    return np.flatnonzero(np.isin(windows, windows[~mask]))


def reused_of(
    version: str, rows: pa.RecordBatch, taken: Taken, kept: NDArray[np.bool_] | None = None
) -> Reused:
    """Counts how the rows of a block stand to those of an earlier version.

    Args:
        version: Name of the earlier version.
        rows: Rows of a TokenBlock.
        taken: What the version has of them.
        kept: Which of them became rows of the EmbeddingBlock, shape (rows,); all where None.
    """
    kept = np.ones(rows.num_rows, dtype=np.bool_) if kept is None else kept
    mask = taken.mask & kept
    saved = mask.copy()
    saved[_to_encode(rows, taken.mask)] = False
    if is_windowed(rows):
        lengths = rows.column("n_tokens").to_numpy()
    else:
        lengths = pc.list_value_length(rows.column("input_ids")).to_numpy()
    masks = [mask, kept & ~taken.known, kept & taken.known & ~taken.same]
    reused, added, changed = (int(np.count_nonzero(one)) for one in masks)
    return Reused(
        version,
        rows=reused,
        tokens=int(lengths[saved].sum(dtype=np.int64)),
        added=added,
        changed=changed,
        sources=_by_source(rows.column("source"), kept, masks),
        numerics=taken.numerics,
    )


def _by_source(
    column: pa.Array, kept: NDArray[np.bool_], masks: list[NDArray[np.bool_]]
) -> dict[str, tuple[int, int, int]]:
    encoded = column.filter(pa.array(kept)).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) > MOST_SOURCES:
        return {}
    codes = encoded.indices.to_numpy()
    reused, added, changed = (
        np.bincount(codes[mask[kept]], minlength=len(names)).tolist() for mask in masks
    )
    counts = dict(zip(names, zip(reused, added, changed, strict=True), strict=True))
    return {name: counts[name] for name in sorted(counts)}
