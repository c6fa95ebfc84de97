"""Loads a transformer on its backend."""

from dataclasses import replace

from embedkit.encoders.base import Encoder
from embedkit.encoders.checked import Backend, CheckedEncoder
from embedkit.encoders.transformer.placement import ONNXRUNTIME
from embedkit.encoders.transformer.spec import TransformerSpec


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
        exactly = replace(placement, backend="torch", precision="float32", unpadded=False)
        return _backend(replace(spec, placement=exactly))

    return CheckedEncoder(backend, exact, spec.vectors.dimension, spec.vectors.normalize)


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
