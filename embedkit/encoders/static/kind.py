"""Static vectors as a kind of encoder, see ``embedkit.encoders.kinds``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.base import Encoder
from embedkit.encoders.hardware import Machine
from embedkit.encoders.static.spec import StaticSpec

_COMPONENTS_PER_SECOND = 3e8
"""Looked up and added by one core; the tokenizer has more to do."""


class StaticKind:
    """Directories of Model2Vec, of sentence-transformers' StaticEmbedding, and ``convert``'s."""

    def recognises(self, directory: Path) -> bool:
        """Tells whether a model directory begins with static vectors."""
        from embedkit.encoders.static.layout import is_static

        return is_static(directory)

    def read(
        self, directory: Path, revision: str | None, config: ModelConfig, machine: Machine
    ) -> StaticSpec:
        """Reads a model's files, all but the values of its vectors; see ``EncoderKind``."""
        from embedkit.encoders.static.model import read_static

        return read_static(directory, revision, config)

    def load(self, spec: StaticSpec) -> Encoder:
        """Maps the vectors into memory; see ``EncoderKind``."""
        from embedkit.encoders.static.encoder import load_static

        return load_static(spec)

    def tokens_per_second(self, spec: StaticSpec, gpu: str = "") -> float:
        """Guesses an encoder's speed on this machine's CPU."""
        return _COMPONENTS_PER_SECOND / spec.vectors.dimension

    def query_config(self, model: str, described: Mapping[str, Any]) -> ModelConfig:
        """Returns how queries to a dataset are encoded: as its rows were.

        Args:
            model: The model's directory or hub id.
            described: What the dataset's manifest says of its vectors.
        """
        return ModelConfig(
            model=model,
            max_tokens=described["max_tokens"],
            pooling=described["pooling"],
            normalize=described["normalized"],
            dimensions=described["dimension"],
            prompt="",
        )
