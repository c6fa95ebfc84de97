"""What is computed of a stream: the vectors of its rows, or of spans of their tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedkit.encoders.transformer.network import SpanHead
from embedkit.encoders.transformer.span_pooling import span_tokens
from embedkit.encoders.transformer.stream.graphs import Graphs
from embedkit.encoders.transformer.stream.layout import Stream
from embedkit.encoders.transformer.stream.slots import StreamShape
from embedkit.vectors import TokenSpans


@dataclass(frozen=True)
class Work:
    """What is computed of a stream.

    Attributes:
        compute: Takes the stream's shape and what stands in its slot, on the device, and returns
            the vectors.
        number: How many of them are wanted.
        more: What is to stand behind the stream in its slot.
    """

    compute: Callable[[StreamShape, Tensor], Tensor]
    number: int
    more: NDArray[np.int32] | None = None


def row_work(stream: Stream, graphs: Graphs) -> Work:
    """Returns how the vectors of a stream's rows are computed.

    Args:
        stream: The stream.
        graphs: Compute vectors of slots.
    """
    return Work(graphs.compute, len(stream.rows))


def span_work(stream: Stream, spans: TokenSpans, graphs: Graphs, head: SpanHead) -> Work:
    """Returns how the vectors of spans are computed, of which each stream has another number.

    Graphs have fixed shapes. So they end with the token vectors, and what is made of these is
    started apart from them.

    Args:
        stream: The stream.
        spans: Those of all rows of the batch that it was made of.
        graphs: Compute vectors of tokens.
        head: Makes those of spans of them.
    """
    own = spans.take(stream.rows)
    found = span_tokens(own, stream.offsets[: len(stream.rows)], head.pooling)
    tokens = len(found.places)
    parts = [found.places] if found.offsets is None else [found.places, found.offsets]

    def compute(shape: StreamShape, inputs: Tensor) -> Tensor:
        hidden = graphs.compute(shape, inputs[: shape.size])
        behind = inputs[shape.behind :]
        offsets = None if found.offsets is None else behind[tokens:]
        vectors: Tensor = head(hidden, behind[:tokens], offsets)
        return vectors

    return Work(compute, len(own), np.concatenate(parts).astype(np.int32))
