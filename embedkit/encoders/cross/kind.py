"""Cross-encoders as a kind of encoder, see ``embedkit.encoders.kinds``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.base import Encoder
from embedkit.encoders.cross.spec import CrossSpec
from embedkit.encoders.gpus import published_rates
from embedkit.encoders.hardware import Machine
from embedkit.encoders.weights import read_json
from embedkit.errors import ConfigError


class CrossKind:
    """Directories of models for sequence classification, as CrossEncoder writes and reads them."""

    def recognises(self, directory: Path) -> bool:
        """Tells whether a model directory has a classification head."""
        return is_classifier(directory)

    def read(
        self, directory: Path, revision: str | None, config: ModelConfig, machine: Machine
    ) -> CrossSpec:
        """Reads a model's files, all but the values of its weights; see ``EncoderKind``."""
        from embedkit.encoders.cross.model_files import read_cross_encoder

        return read_cross_encoder(directory, revision, config, machine)

    def load(self, spec: CrossSpec) -> Encoder:
        """Loads a model on its device; see ``EncoderKind``."""
        from embedkit.encoders.cross.load import load_cross_encoder

        return load_cross_encoder(spec)

    def tokens_per_second(self, spec: CrossSpec, gpu: str = "") -> float:
        """Guesses an encoder's speed on this machine's CPU, or on a GPU, which is not measured."""
        from embedkit.encoders.transformer.speed import (
            TransformerShape,
            cpu_tokens_per_second,
            gpu_tokens_per_second,
        )

        shape = TransformerShape.read(spec.identity.directory)
        if spec.placement.device == "cpu":
            return cpu_tokens_per_second(shape, spec.placement.precision)
        return gpu_tokens_per_second(shape, spec.placement.precision, published_rates(gpu))

    def query_config(self, model: str, described: Mapping[str, Any]) -> ModelConfig:
        """Refuses: nothing is compared with scores."""
        raise ConfigError(f"{model}: a cross-encoder scores pairs, and has no vectors for queries")


def is_classifier(directory: Path) -> bool:
    """Tells whether a directory's ``config.json`` names a class for sequence classification."""
    file = directory / "config.json"
    named = read_json(file, dict).get("architectures") if file.is_file() else None
    classes = named if isinstance(named, list) else []
    return any(str(one).endswith("ForSequenceClassification") for one in classes)


def is_cross_encoder(directory: Path) -> bool:
    """Tells whether sentence-transformers saved a directory as a CrossEncoder."""
    file = directory / "config_sentence_transformers.json"
    saved = file.is_file() and read_json(file, dict).get("model_type") == "CrossEncoder"
    return saved and is_classifier(directory)
