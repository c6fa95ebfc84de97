"""What every step of the run is given, and how encoders are loaded for it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import SIZES, TINY_SIZES, Size, rows_of_text, save_model, token_batch
from numpy.typing import NDArray
from throughput import agreement

from embedkit.config import EngineConfig, ModelConfig
from embedkit.encoders.base import Encoder
from embedkit.encoders.checked import CheckedEncoder
from embedkit.encoders.hardware import gpu_here
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.transformer.architecture import attends_by_interface, transformer_config
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.stream.backend import StreamBackend
from embedkit.encoders.transformer.stream.compiled import compile_layers
from embedkit.encoders.transformer.stream.network import StreamNetwork
from embedkit.encoders.transformer.torch_backend import placed_backend, torch_backend

CALL_TOKENS = EngineConfig.model_fields["call_tokens"].default


@dataclass(frozen=True)
class Bench:
    """The run's options.

    Attributes:
        folder: Where models and other files are kept between the steps.
        tiny: Whether this is a trial with tiny sizes.
        model: A real model's directory, if there is one.
        data: The folder of public data, if there is one.
    """

    folder: Path
    tiny: bool
    model: str | None = None
    data: Path | None = None
    _exact: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    @cached_property
    def device(self) -> str:
        """``cuda`` where torch finds a device, else ``cpu``."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def seconds(self) -> float:
        """How long one figure is measured."""
        return 0.02 if self.tiny else 1.0

    @property
    def call_tokens(self) -> int:
        """Most tokens of a call, as a run's workers make them."""
        return 1_024 if self.tiny else int(CALL_TOKENS)

    @property
    def precision(self) -> str:
        """The precision that an encoder takes on this device by itself."""
        if self.device == "cpu":
            return "float32"
        return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions besides float32 that are tried on this device."""
        halves = ("float16", "bfloat16") if self.device == "cuda" else ("bfloat16",)
        return (*halves, "float8") if self.has_float8 else halves

    @property
    def has_float8(self) -> bool:
        """Whether this device multiplies in float8; a CPU emulates it."""
        gpu = gpu_here()
        return gpu is None or gpu.has_float8

    @property
    def dtype(self) -> torch.dtype:
        """What the device's own matrix products are measured in."""
        return getattr(torch, self.precision)

    def size(self, name: str) -> Size:
        """Returns the shape of a model, by its name."""
        return (TINY_SIZES if self.tiny else SIZES)[name]

    def directory(self, name: str) -> str:
        """Returns a model's directory, which is made where it is not there yet."""
        directory = self.folder / name
        if not (directory / "2_Normalize").is_dir():
            save_model(self.size(name), directory, self.device)
        return str(directory)

    def spec(self, directory: str, **settings: Any) -> TransformerSpec:
        """Reads a model for this device, on torch, and on a stream where its attention can.

        That is what a GPU chooses by itself; here a CPU does as well, to try it.

        Args:
            directory: Its directory.
            settings: Those of ``ModelConfig`` besides.
        """
        chosen: dict[str, Any] = {"device": self.device, "backend": "torch"}
        if self.device == "cpu":
            chosen |= {"precision": "float32", "encoder_threads": 1 if self.tiny else None}
        spec = read_model(ModelConfig(model=directory, **(chosen | settings)))
        if spec.placement.device == "cuda":
            return spec
        config = transformer_config(Path(spec.transformer))
        return with_placement(spec, unpadded=attends_by_interface(config, spec.transformer))

    @cached_property
    def encoder(self) -> Encoder:
        """The smallest model as it is loaded by default, for several checks."""
        return load_encoder(self.spec(self.directory("MiniLM-L6")))

    def compared(self, encoder: Encoder, model: str, rows: int) -> dict[str, float]:
        """Compares an encoder's vectors with those in float32, of rows of text's lengths."""
        batch = token_batch(rows_of_text(rows), self.size(model).vocabulary)
        if model not in self._exact:
            reference = load_encoder(in_float32(self.spec(self.directory(model))))
            self._exact[model] = reference.encode(batch)
        return agreement(encoder.encode(batch), self._exact[model])


def with_placement(spec: TransformerSpec, **settings: Any) -> TransformerSpec:
    """Returns a model that runs otherwise."""
    return replace(spec, placement=replace(spec.placement, **settings))


def in_float32(spec: TransformerSpec) -> TransformerSpec:
    """Returns the reference: padded batches in float32, on the same device."""
    return with_placement(spec, precision="float32", unpadded=False)


def load_stream(spec: TransformerSpec, graphs: bool = True, compiled: bool = False) -> Encoder:
    """Loads a model for the unpadded stream, on any device.

    Args:
        spec: The model.
        graphs: Whether a stream's kernels are started as one, which only CUDA does.
        compiled: Whether its layers are compiled.
    """
    network = load_network(spec)
    stream = StreamNetwork(network, spec)
    padded = placed_backend(network, spec)
    device, vectors = spec.placement.device, spec.vectors
    if compiled:
        compile_layers(network.transformer, "inductor" if device == "cuda" else "eager")
    backend = StreamBackend(
        stream.to(device),
        padded,
        torch.device(device),
        spec.placement.batch_tokens,
        spec.tokenizer.max_tokens,
        spec.pad_id,
        stream.fits,
        graphs,
    )
    backend.probe()
    return CheckedEncoder(
        backend, lambda: torch_backend(in_float32(spec)), vectors.dimension, vectors.normalize
    )


def is_streaming(encoder: Encoder) -> bool:
    """Tells whether an encoder really computes streams; one that cannot falls back, and logs it."""
    return isinstance(getattr(encoder, "_backend", None), StreamBackend)


@dataclass(frozen=True)
class Form:
    """A way to run a model.

    Attributes:
        load: Loads it.
        streams: Whether its rows may stand in a stream.
        precision: Its precision; what the device takes by itself unless given.
    """

    load: Callable[[TransformerSpec], Encoder]
    streams: bool = True
    precision: str | None = None


FORMS = {
    "by default": Form(load_encoder),
    "padded": Form(load_encoder, streams=False),
    "stream": Form(partial(load_stream, graphs=False)),
    "stream, graphs": Form(load_stream),
    "stream, compiled": Form(partial(load_stream, graphs=False, compiled=True)),
    "stream, graphs, compiled": Form(partial(load_stream, compiled=True)),
    "float8": Form(load_encoder, precision="float8"),
}
"""The ways by the names that they have in the tables."""
