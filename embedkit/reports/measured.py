"""A block, and what more than one section of the report measures of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.lazy import lazy_property
from embedkit.records import n_unknown
from embedkit.reports.values import Coded, coded, grouping_columns
from embedkit.vectors import EmbeddingBlock

_ROWS_AT_ONCE = 256
"""So many that their copy in float64 stays in the cache of a core: a third faster than 1024."""


@dataclass(frozen=True)
class Measured:
    """A block, and what more than one section wants to know of it.

    Attributes:
        block: The block as it is committed.
        max_tokens: Tokens of a row that the model saw at most.
    """

    block: EmbeddingBlock
    max_tokens: int

    @property
    def unknown(self) -> int:
        """Tokens of it that stand for unknown text; 0 where these are not counted."""
        return n_unknown(self.block.rows)

    @lazy_property
    def values(self) -> dict[str, Coded]:
        """Which input file, and which value of metadata, each row has, by column."""
        rows = self.block.rows
        return {name: coded(rows.column(name)) for name in grouping_columns(rows.schema)}

    @lazy_property
    def norms(self) -> NDArray[np.float64]:
        """Length of each vector, NaN where it is not finite, float64, shape (rows,)."""
        return self._norms_and_directions[0]

    @lazy_property
    def directions(self) -> NDArray[np.float64]:
        """Sum of the finite, non-zero vectors, each scaled to length 1, shape (dimension,)."""
        return self._norms_and_directions[1]

    @lazy_property
    def _norms_and_directions(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # einsum without BLAS: its sums do not depend on how many threads there are.
        vectors = self.block.vectors.stacked
        norms = np.empty(len(vectors))
        directions = np.zeros(vectors.shape[1])
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            rows = vectors[start : start + _ROWS_AT_ONCE].astype(np.float64)
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            lengths[~np.isfinite(lengths)] = np.nan
            norms[start : start + _ROWS_AT_ONCE] = lengths
            usable = lengths > 0
            if not usable.all():
                rows, lengths = rows[usable], lengths[usable]
            directions += np.einsum("i,ij->j", 1 / lengths, rows)
        return norms, directions
