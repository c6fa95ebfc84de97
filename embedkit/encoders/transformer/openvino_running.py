"""Runs compiled models over rows, several batches at a time.

What is compiled for one fixed shape is faster than what takes any shape: attention by a quarter,
and the steps between the layers are joined. So rows go in whole packs where the model can read
them, and only what is left over in padded batches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.transformer.batching import padded, token_batches
from embedkit.encoders.transformer.openvino_models import Networks
from embedkit.encoders.transformer.packing import PackShape, packs
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.vectors import TokenBatch


@dataclass(frozen=True)
class Piece:
    """Rows that are computed together.

    Attributes:
        packed: Whether they stand in a pack, and not in a padded batch.
        arrays: What the compiled model takes.
        rows: Their numbers.
        starts: Where each row's first token stands, shape (rows,).
    """

    packed: bool
    arrays: tuple[NDArray[Any], ...]
    rows: NDArray[np.intp]
    starts: NDArray[np.intp]


def pieces(batch: TokenBatch, shape: PackShape | None, spec: TransformerSpec) -> Iterator[Piece]:
    """Cuts rows into packs, where there is a shape for them, and padded batches."""
    left: NDArray[np.intp] = np.arange(len(batch))
    if shape is not None:
        whole, left = packs(batch, shape, spec.pad_id)
        for pack in whole:
            yield Piece(True, (pack.input_ids, pack.positions, pack.owners), pack.rows, pack.starts)
    for places in token_batches(batch.lengths[left], spec.placement.batch_tokens):
        rows = left[places]
        arrays = padded(batch.take(rows), spec.pad_id)
        yield Piece(False, arrays, rows, np.arange(len(rows)) * arrays[0].shape[1])


class Runner(Protocol):
    """Computes the vectors of rows, or those of their spans."""

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, fill included."""
        ...

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors, in the order of the rows and their spans."""
        ...


class RowRunner:
    """Computes vectors of rows.

    Args:
        networks: Compiled ones that pool.
        spec: The model.
    """

    def __init__(self, networks: Networks, spec: TransformerSpec) -> None:
        self._queues = {False: _queue(networks.padding)}
        if networks.packing is not None:
            self._queues[True] = _queue(networks.packing)
        self._shape = networks.shape
        self._spec = spec
        self.computed_tokens = 0

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, in their order, shape (rows, dimension)."""
        vectors = np.empty((len(batch), self._spec.vectors.dimension), dtype=np.float32)
        for piece in pieces(batch, self._shape, self._spec):
            self.computed_tokens += piece.arrays[0].size
            self._queues[piece.packed].start_async(piece.arrays, (vectors, piece.rows))
        for queue in self._queues.values():
            queue.wait_all()
        return vectors


def _queue(compiled: Any) -> Any:
    queue = openvino.AsyncInferQueue(compiled)
    queue.set_callback(_keep)
    return queue


def _keep(request: Any, place: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    vectors, rows = place
    vectors[rows] = request.get_output_tensor(0).data[: len(rows)]
