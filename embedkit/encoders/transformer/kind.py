"""Transformers as a kind of encoder, see ``embedkit.encoders.kinds``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.base import Encoder, ObservedEncoder
from embedkit.encoders.gpus import published_rates
from embedkit.encoders.hardware import Machine
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.transformer.spec import TransformerSpec


class TransformerKind:
    """Directories as sentence-transformers writes them, and plain ones of Hugging Face."""

    def recognises(self, directory: Path) -> bool:
        """Tells whether a directory lists modules, or has a transformer's or adapter's settings."""
        names = ("modules.json", "config.json", "adapter_config.json")
        return any((directory / name).is_file() for name in names)

    def read(
        self, directory: Path, revision: str | None, config: ModelConfig, machine: Machine
    ) -> TransformerSpec:
        """Reads a model's files, all but the values of its weights; see ``EncoderKind``."""
        from embedkit.encoders.transformer.model_files import read_transformer

        return read_transformer(directory, revision, config, machine)

    def load(self, spec: TransformerSpec) -> Encoder:
        """Loads a model on its backend and device; see ``EncoderKind``."""
        from embedkit.encoders.transformer.load import load_transformer

        return load_transformer(spec)

    def observe(self, spec: ModelSpec) -> ObservedEncoder:
        """Loads a model that sees what its layers are given, see ``load_observed``."""
        from embedkit.encoders.transformer.load import observed_transformer

        assert isinstance(spec, TransformerSpec), "no other kind has int8"
        return observed_transformer(spec)

    def tokens_per_second(self, spec: TransformerSpec, gpu: str = "") -> float:
        """Guesses an encoder's speed on this machine's CPU, or on a GPU, which is not measured."""
        from embedkit.encoders.transformer.speed import (
            TransformerShape,
            cpu_tokens_per_second,
            gpu_tokens_per_second,
        )

        shape = TransformerShape.of(spec)
        if spec.placement.device == "cpu":
            return cpu_tokens_per_second(shape, spec.placement.precision)
        return gpu_tokens_per_second(shape, spec.placement.precision, published_rates(gpu))

    def query_config(self, model: str, described: Mapping[str, Any]) -> ModelConfig:
        """Returns how queries to a dataset are encoded: as its rows were, on the CPU in float32.

        Those to rows of an ONNX file are encoded by it as well, which may be all there is.

        Args:
            model: The model's directory or hub id.
            described: What the dataset's manifest says of its vectors.
        """
        # Queries may take a way of their own, with another length, pooling and file.
        own_way = "route" in described
        onnx_file = None if own_way else described.get("onnx_file")
        # Where torch was taken on a CPU there was a reason.
        by_torch = described.get("backend") == "torch" and described.get("device") == "cpu"
        other = "torch" if by_torch else "auto"
        return ModelConfig(
            model=model,
            route="query" if own_way else None,
            max_tokens=None if own_way else described["max_tokens"],
            pooling=None if own_way else described["pooling"],
            layers=described.get("layers", "-1"),
            normalize=described["normalized"],
            dimensions=described["dimension"],
            device="cpu",
            backend=other if onnx_file is None else "onnx",
            onnx_file=onnx_file,
            precision="float32",
            prompt="",
            ignore_auto_map="ignored_code" in described,
            tokenizer=described.get("tokenizer"),
            allow_tokenizer_mismatch="tokenizer_mismatch" in described,
        )
