"""Packs rows of different lengths side by side into batches of one fixed shape."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.transformer.waiting_rows import WaitingRows
from embedkit.vectors import TokenBatch

# Above a tenth, a padded batch of rows of similar lengths costs less.
_MOST_FILL = 0.1


@dataclass(frozen=True)
class PackShape:
    """The shape of every pack of an encoder.

    Attributes:
        lines: Sequences of a pack.
        width: Tokens of a line.
        line_rows: Most rows of a line.
    """

    lines: int
    width: int
    line_rows: int


@dataclass(frozen=True)
class Pack:
    """A batch in whose lines rows stand side by side, each whole.

    Attributes:
        rows: Their numbers, shape (rows,).
        input_ids: Their tokens and the fill, int32, shape (lines, width).
        positions: Place of a token in its row, from 0; 0 for fill. Same type and shape.
        owners: For each token, the place of its row in ``rows``, from 1; 0 for fill. Same again.
    """

    rows: NDArray[np.intp]
    input_ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    owners: NDArray[np.int32]

    @property
    def starts(self) -> NDArray[np.intp]:
        """Place of each row's first token, where lines stand one after the other."""
        return np.flatnonzero((self.positions == 0) & (self.owners > 0))


def packs(
    batch: TokenBatch, shape: PackShape, pad_id: int
) -> tuple[Iterator[Pack], NDArray[np.intp]]:
    """Fills packs with rows, longest first, as long as packs can be filled well.

    Args:
        batch: The rows.
        shape: The shape of a pack.
        pad_id: Id of the fill. A row that has it among its tokens is left over, as some models
            count positions without it.

    Returns:
        The packs, and the numbers of the rows that are left over, in their order: those that are
        longer than a line, those of lines with much fill, and those of lines too few for a pack.
        Equal batches always give equal packs.
    """
    lengths = batch.lengths
    filled = np.flatnonzero(batch.input_ids == pad_id)
    fits = (lengths <= shape.width) & (lengths > 0)
    fits[np.searchsorted(batch.offsets, filled, side="right") - 1] = False
    lines = list(_lines(lengths, np.flatnonzero(fits), shape))
    groups = [
        lines[end - shape.lines : end] for end in range(shape.lines, len(lines) + 1, shape.lines)
    ]
    left = np.ones(len(batch), dtype=np.bool_)
    for group in groups:
        for line in group:
            left[line] = False
    return (_pack(batch, group, shape, pad_id) for group in groups), np.flatnonzero(left)


def _lines(
    lengths: NDArray[np.int32], rows: NDArray[np.intp], shape: PackShape
) -> Iterator[NDArray[np.intp]]:
    """Fills one line after the other, each time with the longest row that still fits.

    Yields:
        Row numbers of the lines with little fill.
    """
    waiting = WaitingRows(lengths, rows)
    while waiting:
        line = waiting.take(shape.width, shape.line_rows)
        if shape.width - lengths[line].sum() <= shape.width * _MOST_FILL:
            yield line


def _pack(batch: TokenBatch, lines: list[NDArray[np.intp]], shape: PackShape, pad_id: int) -> Pack:
    rows = np.concatenate(lines)
    taken = batch.take(rows)
    lengths, starts = taken.lengths, taken.offsets[:-1]
    tokens = np.arange(len(taken.input_ids))
    batch_lengths = batch.lengths
    line_sizes = [int(batch_lengths[line].sum()) for line in lines]
    # Without fill a token would stand where it stands in ``taken``; every line before it adds its.
    fill = np.cumsum([0, *(shape.width - size for size in line_sizes[:-1])])
    places = tokens + np.repeat(fill, line_sizes)
    ids = np.full(shape.lines * shape.width, pad_id, dtype=np.int32)
    positions, owners = np.zeros_like(ids), np.zeros_like(ids)
    ids[places] = taken.input_ids
    positions[places] = tokens - np.repeat(starts, lengths)
    owners[places] = np.repeat(np.arange(1, len(rows) + 1), lengths)
    form = (shape.lines, shape.width)
    return Pack(rows, ids.reshape(form), positions.reshape(form), owners.reshape(form))
