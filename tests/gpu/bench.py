"""What every step of the run is given, and how encoders are loaded for it."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from models import SIZES, TINY_SIZES, Size, save_model

from embedkit.config import EngineConfig, ModelConfig
from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec

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

    @cached_property
    def device(self) -> str:
        """``cuda`` where torch finds a device, else ``cpu``."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def seconds(self) -> float:
        """How long one figure is measured."""
        return 0.02 if self.tiny else 2.0

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
        return ("float16", "bfloat16") if self.device == "cuda" else ("bfloat16",)

    def size(self, name: str) -> Size:
        """Returns the shape of a model, by its name."""
        return (TINY_SIZES if self.tiny else SIZES)[name]

    def directory(self, name: str) -> str:
        """Returns a model's directory, which is made where it is not there yet."""
        directory = self.folder / name
        if not (directory / "2_Normalize").is_dir():
            save_model(self.size(name), directory, self.device)
        return str(directory)

    def spec(self, directory: str, **settings: Any) -> ModelSpec:
        """Reads a model for this device, on torch.

        Args:
            directory: Its directory.
            settings: Those of ``ModelConfig`` besides.
        """
        chosen: dict[str, Any] = {"device": self.device, "backend": "torch"}
        if self.device == "cpu":
            chosen |= {"precision": "float32", "encoder_threads": 1 if self.tiny else None}
        return read_model(ModelConfig(model=directory, **(chosen | settings)))


def load_padded(spec: ModelSpec) -> Encoder:
    """Loads a model for padded batches in the library's own attention, as on a CPU."""
    return load_encoder(spec)


def load_float32(spec: ModelSpec) -> Encoder:
    """Loads the reference: padded batches in float32, on the same device."""
    return load_padded(replace(spec, placement=replace(spec.placement, precision="float32")))


FORMS = {"padded": load_padded}
"""Ways to run the same model, by the names they have in the tables."""
