"""Loads a transformer on its backend."""

from dataclasses import replace
from typing import TYPE_CHECKING

from embedkit.encoders.base import Encoder
from embedkit.encoders.checked import Backend, CheckedEncoder
from embedkit.encoders.spec import LayerRanges
from embedkit.encoders.transformer.placement import ONNXRUNTIME
from embedkit.encoders.transformer.spec import TransformerSpec

if TYPE_CHECKING:
    from embedkit.encoders.transformer.int8 import Observer


def load_transformer(spec: TransformerSpec) -> Encoder:
    """Loads a model on its backend and device.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture, or the backend cannot run it.
        EncoderError: The files are not what they were when the job was planned.
    """
    backend = _backend(spec)

    def exact() -> Backend:
        placement = spec.placement
        if placement.backend == "torch" and placement.precision == "float32":
            return backend
        if placement.backend == ONNXRUNTIME:
            from embedkit.encoders.transformer.onnx_network import exact_spec

            beside = exact_spec(spec)
            return backend if beside is None else _backend(beside)
        return _backend(_exact(spec))

    return CheckedEncoder(backend, exact, spec.vectors.dimension, spec.vectors.normalize)


class Observed(CheckedEncoder):
    """See ``ObservedEncoder``."""

    def __init__(self, backend: Backend, observer: "Observer", spec: TransformerSpec) -> None:
        super().__init__(backend, lambda: backend, spec.vectors.dimension, spec.vectors.normalize)
        self._observer = observer

    def ranges(self) -> LayerRanges:
        """Returns what was seen so far, and sees no more."""
        return self._observer.ranges()


def observed_transformer(spec: TransformerSpec) -> Observed:
    """Loads a model in float32 that sees what its layers are given.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    from embedkit.encoders.transformer.int8 import Observer
    from embedkit.encoders.transformer.network import load_network
    from embedkit.encoders.transformer.torch_backend import placed_backend

    # One row at a time, as fill is nothing that a layer should be measured by.
    alone = _exact(spec).one_by_one()
    network = load_network(alone)
    observer = Observer(network.transformer)
    return Observed(placed_backend(network, alone), observer, alone)


def _exact(spec: TransformerSpec) -> TransformerSpec:
    exactly = replace(spec.placement, backend="torch", precision="float32", unpadded=False)
    return replace(spec, placement=exactly)


def _backend(spec: TransformerSpec) -> Backend:
    if spec.placement.backend == "openvino":
        from embedkit.encoders.transformer.openvino import OpenVinoBackend

        return OpenVinoBackend(spec)
    if spec.placement.backend == ONNXRUNTIME:
        from embedkit.encoders.transformer.onnx_network import onnx_backend

        return onnx_backend(spec)
    if spec.placement.unpadded:
        from embedkit.encoders.transformer.stream.load import stream_backend

        return stream_backend(spec)
    from embedkit.encoders.transformer.torch_backend import torch_backend

    return torch_backend(spec)
