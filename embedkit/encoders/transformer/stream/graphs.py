"""Starts the many kernels of a stream as one graph, where the device can."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.encoders.transformer.stream.device import Device, Queue
from embedkit.encoders.transformer.stream.slots import StreamShape
from embedkit.errors.foreign import one_line

_log = logging.getLogger(__name__)

_WARM_UPS = 2
"""Streams of a shape that are computed without a graph first: what is compiled, tuned or allocated
once must not be captured, and rare shapes are not worth it."""

_MOST = 32
"""Graphs that are kept; a few lengths and a few numbers of slots make some ten shapes."""


@dataclass(frozen=True)
class _Graph:
    inputs: Tensor
    vectors: Tensor
    replay: Callable[[], None]


class Graphs:
    """Computes streams, those of a shape that came often by its graph.

    Everything is done on one queue and by one thread at a time, so that a graph's fixed input and
    output are free again as soon as the next work comes to the queue.

    Args:
        device: The device.
        network: Takes ids, places, offsets and the longest row, see ``StreamNetwork``; returns
            vectors of rows, or of tokens.
        queue: The queue that all is computed on.
        wanted: Whether graphs are made, where the device has them.
    """

    def __init__(
        self,
        device: Device,
        network: Callable[[Tensor, Tensor, Tensor, int], Tensor],
        queue: Queue,
        wanted: bool = True,
    ) -> None:
        self._device = device
        self._network = network
        self._queue = queue
        self._wanted = wanted and device.has_graphs
        self._seen: Counter[StreamShape] = Counter()
        self._found: dict[StreamShape, torch.Size] = {}
        self._outputs: dict[torch.Size, Tensor] = {}
        self._graphs: dict[StreamShape, _Graph] = {}

    def __len__(self) -> int:
        """Returns the number of graphs."""
        return len(self._graphs)

    def compute(self, shape: StreamShape, inputs: Tensor) -> Tensor:
        """Computes a stream on the queue, which is the current one.

        Args:
            shape: Its shape.
            inputs: Its three arrays as one, on the device, shape (shape.size,).

        Returns:
            Vectors of its slots, or of its tokens, as the network gives them; good for what follows
            on the queue until the next stream is computed.
        """
        graph = self._graphs.get(shape)
        if graph is None and self._is_due(shape):
            graph = self._capture(shape)
        if graph is None:
            vectors = self._network(*shape.arrays(inputs), shape.longest)
            self._seen[shape] += 1
            self._found[shape] = vectors.shape
            return vectors
        graph.inputs.copy_(inputs)
        graph.replay()
        return graph.vectors

    def drop(self, for_good: bool) -> None:
        """Lets go of all graphs, once none of them is under way.

        Args:
            for_good: Whether no others are made.
        """
        self._wanted = self._wanted and not for_good
        if self._graphs:
            self._device.synchronize()
        self._graphs.clear()
        self._outputs.clear()
        self._seen.clear()

    def _is_due(self, shape: StreamShape) -> bool:
        return self._wanted and self._seen[shape] >= _WARM_UPS and len(self._graphs) < _MOST

    def _output(self, size: torch.Size) -> Tensor:
        """Returns memory for vectors, the same for all graphs of a size: it is read at once."""
        if size not in self._outputs:
            self._outputs[size] = self._device.buffer(size.numel(), torch.float32).view(size)
        return self._outputs[size]

    def _capture(self, shape: StreamShape) -> _Graph | None:
        inputs = self._device.buffer(shape.size, torch.int32)
        vectors = self._output(self._found[shape])

        def work() -> None:
            vectors.copy_(self._network(*shape.arrays(inputs), shape.longest))

        try:
            graph = _Graph(inputs, vectors, self._device.capture(work, self._queue))
            self._graphs[shape] = graph
            return graph
        except RuntimeError as error:
            reason = one_line(error, only_first=True)
        # The cache is not emptied: torch 2.11 takes a capture that failed for still under way, and
        # would stumble over that.
        self.drop(for_good=True)
        # A capture that fails says "CUDA error" as a lost device does, but only that still does so.
        self._device.synchronize()
        _log.warning("the GPU starts kernels one by one, as no graph could be made (%s)", reason)
        return None
