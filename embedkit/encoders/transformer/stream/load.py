"""Loads a transformer for the unpadded stream, or for padded batches where that cannot be."""

import logging

import torch

from embedkit.encoders.checked import Backend
from embedkit.encoders.hardware import device_is_lost
from embedkit.encoders.transformer.network import SentenceNetwork, load_network
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.stream.backend import StreamBackend, TokenNetwork
from embedkit.encoders.transformer.stream.checking import (
    NotStreamed,
    check_batch,
    checked_stream,
    compare,
    padded_vectors,
)
from embedkit.encoders.transformer.stream.compiled import compile_layers, pays
from embedkit.encoders.transformer.torch_backend import placed_backend
from embedkit.errors import EmbedkitError
from embedkit.errors.foreign import one_line

_log = logging.getLogger(__name__)


def stream_backend(spec: TransformerSpec) -> Backend:
    """Loads a model, and checks its vectors on a stream against those of padded batches.

    Args:
        spec: The model; its backend is not looked at.

    Returns:
        A backend that streams; or one of padded batches, which the log tells with the reason.

    Raises:
        ConfigError: The weights are not those of the architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    network = load_network(spec)
    try:
        return _streaming(network, spec)
    except NotStreamed as error:
        _log.warning("the device computes padded batches, as %s", error)
        return placed_backend(network, spec)


def _streaming(network: SentenceNetwork, spec: TransformerSpec) -> Backend:
    batch = check_batch(network, spec)
    expected = padded_vectors(network, batch, spec.pad_id)
    stream = checked_stream(network, spec, batch, expected)
    padded = placed_backend(network, spec)
    device = torch.device(spec.placement.device)
    if device.type == "cuda" and pays(network.transformer):
        compile_layers(network.transformer)
    try:
        backend = StreamBackend(
            stream.to(device),
            padded,
            device,
            spec.placement.batch_tokens,
            spec.tokenizer.max_tokens,
            spec.pad_id,
            stream.fits,
            tokens=TokenNetwork(stream.hidden, stream.spans),
        )
        backend.probe(of_spans=spec.vectors.many)
        vectors = backend.run(batch)
    except (torch.OutOfMemoryError, EmbedkitError):
        raise
    # Whatever a model stumbles over in a stream that is longer than any row: limits and tables.
    except Exception as error:
        if isinstance(error, RuntimeError) and device_is_lost(error):
            raise
        raise NotStreamed(one_line(error, only_first=True)) from error
    compare(vectors, expected, spec, spec.placement.precision)
    return backend
