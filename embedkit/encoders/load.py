"""A model to the encoder that runs it: the heavy work, done where the encoder lives."""

from dataclasses import replace

from embedkit.encoders.base import Encoder
from embedkit.encoders.checked import Backend, CheckedEncoder
from embedkit.encoders.model_files import ModelSpec


def load_encoder(spec: ModelSpec) -> Encoder:
    """Loads a model on its backend and device.

    Args:
        spec: The model, as ``read_model`` settled it.

    Raises:
        ConfigError: The weights are not those of the architecture, or the backend cannot run it.
        EncoderError: The files are not what they were when the job was planned.
    """
    backend = _backend(spec)

    def exact() -> Backend:
        if spec.backend == "torch" and spec.precision == "float32":
            return backend
        return _backend(replace(spec, backend="torch", precision="float32"))

    return CheckedEncoder(backend, exact, spec.dimension, spec.normalize)


def device_is_lost(error: RuntimeError) -> bool:
    """Tells whether an error leaves the GPU unusable for the rest of this process."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return False
    text = str(error)
    return "CUDA error" in text or "CUBLAS_STATUS" in text or "CUDNN_STATUS" in text


def _backend(spec: ModelSpec) -> Backend:
    if spec.backend == "openvino":
        from embedkit.encoders.openvino import openvino_backend

        return openvino_backend(spec)
    from embedkit.encoders.transformer import torch_backend

    return torch_backend(spec)
