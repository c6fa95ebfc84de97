"""Checks a stream's vectors against those of padded batches, before it is trusted with a model."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedkit.encoders.transformer.network import SentenceNetwork
from embedkit.encoders.transformer.span_pooling import span_tokens
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.stream.attention import configurations
from embedkit.encoders.transformer.stream.network import StreamNetwork, stream_of
from embedkit.encoders.transformer.torch_backend import TorchBackend
from embedkit.encoders.transformer.trial import greatest_distance, trial_rows, trial_spans
from embedkit.errors.foreign import one_line
from embedkit.vectors import TokenBatch

_LENGTHS = (1, 3, 7, 40, 130)
_LIMITS = re.compile("window|chunk|topk")
"""What configurations call the distance, or the number, of tokens that a token sees."""

_TOLERANCES = {"float32": 1e-4, "float16": 0.03, "bfloat16": 0.1, "float8": 0.4}
"""Greatest distance of a vector from what it should be, in shares of its length."""


class NotStreamed(Exception):
    """A model, or its device, cannot do what the stream needs; the message says why."""


def check_batch(network: SentenceNetwork, spec: TransformerSpec) -> TokenBatch:
    """Returns rows of several lengths, without ids of fill, always the same for a model.

    Where a token does not see all of a long row, one is so long. Where vectors are of tokens or
    words they have spans.
    """
    longest = spec.tokenizer.max_tokens
    lengths = (*_LENGTHS, *_beyond_sight(network.transformer, longest))
    own = (min(spec.prompt_length + length, longest) for length in lengths)
    batch = trial_rows(network.transformer, spec.pad_id, own)
    return trial_spans(batch) if spec.vectors.many else batch


def _beyond_sight(transformer: nn.Module, longest: int) -> list[int]:
    """Returns a length at which tokens see less than their row, if others are not that long."""
    limits = [
        value
        for config in configurations(transformer)
        for name, value in config.to_dict().items()
        if _LIMITS.search(name) and type(value) is int and value < longest
    ]
    most = max(limits, default=0)
    return [most + _LENGTHS[-1]] if most > _LENGTHS[-1] // 2 else []


def padded_vectors(network: SentenceNetwork, batch: TokenBatch, pad_id: int) -> NDArray[np.float32]:
    """Returns the vectors of rows, or of their spans, each row alone, on the CPU.

    They are computed in the precision of the network.
    """
    return TorchBackend(network, "cpu", batch_tokens=1, pad_id=pad_id).run(batch)


def checked_stream(
    network: SentenceNetwork, spec: TransformerSpec, batch: TokenBatch, expected: NDArray[Any]
) -> StreamNetwork:
    """Returns a network over streams that gives the vectors of padded batches.

    Args:
        network: The network, in float32 on the CPU.
        spec: The model.
        batch: Rows to try.
        expected: Their vectors from padded batches.

    Raises:
        NotStreamed: It gives others, or fails.
    """
    try:
        stream = StreamNetwork(network, spec)
        with torch.inference_mode():
            vectors = _streamed(stream, batch).numpy()
    # Whatever a model stumbles over that knows nothing of streams: arguments, shapes, lookups.
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(error, only_first=True)}"
        raise NotStreamed(f"{spec.architecture} does not run on a stream ({what})") from error
    compare(vectors, expected, spec, "float32")
    return stream


def _streamed(stream: StreamNetwork, batch: TokenBatch) -> Tensor:
    arrays = stream_of(batch)
    if batch.spans is None:
        vectors: Tensor = stream(*arrays)
        return vectors
    found = span_tokens(batch.spans, batch.offsets[:-1], stream.spans.pooling)
    offsets = None if found.offsets is None else torch.from_numpy(found.offsets)
    vectors = stream.spans(stream.hidden(*arrays), torch.from_numpy(found.places), offsets)
    return vectors


def compare(
    vectors: NDArray[Any], expected: NDArray[Any], spec: TransformerSpec, precision: str
) -> None:
    """Compares vectors with those that they should be.

    Args:
        vectors: Shape (rows, dimension).
        expected: The same of padded batches in float32.
        spec: The model.
        precision: What they were computed in.

    Raises:
        NotStreamed: They differ by more than the precision explains.
    """
    distance = greatest_distance(vectors, expected)
    if not distance <= _TOLERANCES[precision]:
        name = Path(spec.identity.directory).name
        raise NotStreamed(
            f"{name}, {spec.architecture} in {precision}, gives other vectors on a stream (relative"
            f" distance {distance:.2g}, at most {_TOLERANCES[precision]:g} expected)"
        )
