"""Loads a cross-encoder on its device."""

from dataclasses import replace

from embedkit.encoders.base import Encoder
from embedkit.encoders.checked import Backend, CheckedEncoder
from embedkit.encoders.cross.network import load_scoring_network
from embedkit.encoders.cross.spec import CrossSpec
from embedkit.encoders.transformer.torch_backend import on_device


def load_cross_encoder(spec: CrossSpec) -> Encoder:
    """Loads a model on its device.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    backend = _backend(spec)

    def exact() -> Backend:
        if spec.placement.precision == "float32":
            return backend
        return _backend(replace(spec, placement=replace(spec.placement, precision="float32")))

    return CheckedEncoder(backend, exact, spec.vectors.dimension, normalize=False)


def _backend(spec: CrossSpec) -> Backend:
    network = load_scoring_network(spec)
    return on_device(network, network.below_head, spec, spec.pad_id)
