"""Holds the weights of a model to be those that its job was planned with."""

from pathlib import Path

from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.weights import weights_hash
from embedkit.errors import EncoderError


def check_weights(spec: ModelSpec) -> None:
    """Checks that a model's weights are those that its job was planned with.

    Raises:
        EncoderError: They are gone, or others.
    """
    identity = spec.identity
    root, base = Path(identity.directory), None if identity.base is None else Path(identity.base)
    files = [identity.file(name) for name in identity.weights]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise EncoderError(
            f"{missing[0]}: missing; the model must be at this path on every machine"
        )
    found = weights_hash(files, root, base)
    if found != spec.identity.weights_hash:
        raise EncoderError(
            f"{root}: the weights changed since the job was planned (sha256 {found}, expected "
            f"{spec.identity.weights_hash}); restore them, or start the job anew"
        )
