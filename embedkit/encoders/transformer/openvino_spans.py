"""Runs compiled models over rows with spans, whose vectors torch pools from those of tokens."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.encoders.transformer.network import SpanHead
from embedkit.encoders.transformer.openvino_models import STREAMS, Networks
from embedkit.encoders.transformer.openvino_running import Piece, pieces
from embedkit.encoders.transformer.span_pooling import SpanTokens, span_tokens
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_threads import cpu_threads
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, TokenSpans, places_of_rows


@dataclass(frozen=True)
class _UnderWay:
    request: Any
    free: list[Any]
    tokens: SpanTokens
    places: NDArray[np.int64]


class SpanRunner:
    """Computes vectors of spans, which are pooled here from the token vectors of a model.

    Args:
        networks: Compiled ones that give token vectors.
        head: What comes after them.
        spec: The model.
    """

    def __init__(self, networks: Networks, head: SpanHead, spec: TransformerSpec) -> None:
        compiled = {False: networks.padding, True: networks.packing}
        # One more than are computed at once: the next begins while one's vectors are taken.
        self._free: dict[bool, list[Any]] = {
            packed: [model.create_infer_request() for _ in range(STREAMS + 1)]
            for packed, model in compiled.items()
            if model is not None
        }
        self._shape = networks.shape
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
