"""Runs compiled models over rows, several batches at a time.

What is compiled for one fixed shape is faster than what takes any shape: attention by a quarter,
and the steps between the layers are joined. So rows go in whole packs where the model can read
them, and only what is left over in padded batches.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.encoders.transformer.batching import padded, token_batches
from embedkit.encoders.transformer.network import SpanHead
from embedkit.encoders.transformer.openvino_models import STREAMS, CompiledModels
from embedkit.encoders.transformer.packing import PackShape, packs
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.span_pooling import SpanTokens, span_tokens
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_threads import cpu_threads
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, TokenSpans, places_of_rows


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


class RowRunner:
    """Computes vectors of rows.

    Args:
        models: Models that pool.
        spec: The model.
    """

    def __init__(self, models: CompiledModels, spec: TransformerSpec) -> None:
        self._queues = {False: _queue(models.padding)}
        if models.packing is not None:
            self._queues[True] = _queue(models.packing)
        self._shape = models.shape
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


@dataclass(frozen=True)
class _UnderWay:
    request: Any
    free: list[Any]
    tokens: SpanTokens
    places: NDArray[np.int64]


class SpanRunner:
    """Computes vectors of spans, which are pooled here from the token vectors of a model.

    Args:
        models: Models that give token vectors.
        head: What comes after them.
        spec: The model.
    """

    def __init__(self, models: CompiledModels, head: SpanHead, spec: TransformerSpec) -> None:
        compiled = {False: models.padding, True: models.packing}
        # One more than are computed at once: the next begins while one's vectors are taken.
        self._free: dict[bool, list[Any]] = {
            packed: [model.create_infer_request() for _ in range(STREAMS + 1)]
            for packed, model in compiled.items()
            if model is not None
        }
        self._shape = models.shape
        self._head = head
        self._spec = spec
        self.computed_tokens = 0

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of the spans of rows, in their order, shape (spans, dimension).

        Raises:
            EncoderError: The batch has no spans.
        """
        spans = batch.spans
        if spans is None:
            raise EncoderError(
                "an encoder of tokens or words was asked for vectors of rows; this is a fault in "
                "the step that made the batch"
            )
        vectors = np.empty((len(spans), self._spec.vectors.dimension), dtype=np.float32)
        under_way: deque[_UnderWay] = deque()
        # With one thread, as pooling is little work beside the model's and would slow it down.
        with cpu_threads(1), torch.inference_mode():
            try:
                for piece in pieces(batch, self._shape, self._spec):
                    free = self._free[piece.packed]
                    while not free:
                        self._take(under_way, vectors)
                    under_way.append(self._started(piece, free, spans))
                while under_way:
                    self._take(under_way, vectors)
            finally:
                for one in under_way:
                    one.request.wait()
                    one.free.append(one.request)
        return vectors

    def _started(self, piece: Piece, free: list[Any], spans: TokenSpans) -> _UnderWay:
        tokens = span_tokens(spans.take(piece.rows), piece.starts, self._head.pooling)
        places, _ = places_of_rows(spans.offsets, piece.rows)
        free[-1].start_async(piece.arrays)
        self.computed_tokens += piece.arrays[0].size
        return _UnderWay(free.pop(), free, tokens, places)

    def _take(self, under_way: deque[_UnderWay], vectors: NDArray[np.float32]) -> None:
        """Waits for what has been under way longest, and keeps its vectors."""
        one = under_way[0]
        one.request.wait()
        hidden = torch.from_numpy(one.request.get_output_tensor(0).data).flatten(0, -2)
        offsets = None if one.tokens.offsets is None else torch.from_numpy(one.tokens.offsets)
        pooled = self._head(hidden, torch.from_numpy(one.tokens.places), offsets)
        vectors[one.places] = pooled.numpy()
        one.free.append(under_way.popleft().request)
