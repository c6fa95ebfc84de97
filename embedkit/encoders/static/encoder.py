"""Static vectors as an encoder: looked up, weighted and added up, in numpy."""

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.normalization import normalized
from embedkit.encoders.static.layout import read_layout
from embedkit.encoders.static.pooling import StaticPooling, open_pooling
from embedkit.encoders.static.spec import StaticSpec
from embedkit.encoders.static.vectors import VectorTable, open_table
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch

_PIECE = 1 << 10
"""Tokens whose vectors are added up at once; longer rows in pieces, the same whatever is beside."""

_TINY = 1e-9


def load_static(spec: StaticSpec) -> "StaticEncoder":
    """Maps a model's vectors into memory.

    Args:
        spec: The model.

    Raises:
        ConfigError: The vectors are damaged.
        EncoderError: The files are not what they were when the job was planned.
    """
    root = Path(spec.identity.directory)
    table = open_table(read_layout(root))
    if table.dimension < spec.vectors.dimension:
        raise EncoderError(
            f"{root}: {table.dimension} components, which is not what it was when the job was "
            "planned; restore it"
        )
    words = len(table) if spec.unknown_id is None else spec.unknown_id
    return StaticEncoder(spec, table, open_pooling(spec.pooling, root, words))


class StaticEncoder:
    """An Encoder that looks vectors up.

    Args:
        spec: The model.
        table: The vector of each id.
        pooling: How those of a text become one.
    """

    def __init__(self, spec: StaticSpec, table: VectorTable, pooling: StaticPooling) -> None:
        self._spec = spec
        self._table = table
        self._pooling = pooling
        self._counting = threading.Lock()
        self._tokens = 0

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self._spec.vectors.dimension

    @property
    def device(self) -> str:
        """The device's name."""
        return "cpu"

    @property
    def computed_tokens(self) -> int:
        """Tokens looked up so far, unknown ones included."""
        return self._tokens

    @property
    def device_seconds(self) -> float | None:
        """A lookup has no clock of its own."""
        return None

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Encodes rows of tokens; the vector of one without a token that is known is zero."""
        ids, offsets = self._known(batch)
        pooling = self._pooling
        sums = self._sums(ids, offsets)
        parts = np.diff(offsets).astype(np.float32)
        if pooling.weights is not None and pooling.by_weight:
            parts = _row_sums(pooling.weights[ids][:, None], offsets)[:, 0]
        sums /= np.maximum(parts, np.float32(_TINY))[:, None]
        if pooling.component is not None:
            # A matrix product would round a row otherwise with other rows beside it.
            along = (sums * pooling.component).sum(axis=1, keepdims=True)
            sums -= along * pooling.component
        vectors: NDArray[np.float32] = np.ascontiguousarray(sums[:, : self.dimension])
        with self._counting:
            self._tokens += len(batch.input_ids)
        return normalized(vectors) if self._spec.vectors.normalize else vectors

    def _known(self, batch: TokenBatch) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Returns the ids that have a part in the vectors, and where those of each row end."""
        ids, offsets = batch.input_ids, batch.offsets.astype(np.int64)
        if len(ids) and int(ids.max()) >= len(self._table):
            raise EncoderError(
                f"{self._spec.identity.directory}: {len(self._table):,} vectors, but the tokenizer "
                f"gave id {int(ids.max()):,}; download the model again"
            )
        if self._spec.unknown_id is None:
            return ids, offsets
        known = ids != self._spec.unknown_id
        return ids[known], np.append(0, np.cumsum(known))[offsets]

    def _sums(self, ids: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """Adds up the vectors of each row, some at a time."""
        starts, rows = _pieces(offsets)
        partial = np.empty((len(starts), self._table.dimension), dtype=np.float32)
        ends = np.append(starts[1:], len(ids))
        first = 0
        while first < len(starts):
            most = starts[first] + _PIECE
            stop = max(first + 1, int(np.searchsorted(ends, most, side="right")))
            some = slice(starts[first], ends[stop - 1])
            vectors = self._table.rows(ids[some])
            if self._pooling.weights is not None:
                vectors *= self._pooling.weights[ids[some]][:, None]
            partial[first:stop] = np.add.reduceat(vectors, starts[first:stop] - some.start, axis=0)
            first = stop
        return _row_sums(partial, rows)


def _pieces(offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts rows into pieces of at most ``_PIECE`` tokens.

    Returns:
        Where each piece begins, shape (pieces,), and where those of each row end among them, shape
        (rows + 1,).
    """
    counts = -(-np.diff(offsets) // _PIECE)
    ends = np.append(0, np.cumsum(counts))
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
    return np.repeat(offsets[:-1], counts) + within * _PIECE, ends


def _row_sums(values: NDArray[np.float32], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Adds up the values of each row, shape (values, width); 0 where it has none."""
    sums = np.zeros((len(offsets) - 1, values.shape[1]), dtype=np.float32)
    some = np.flatnonzero(np.diff(offsets))
    if len(some):
        sums[some] = np.add.reduceat(values, offsets[some], axis=0)
    return sums
