"""Layers between the pooling and the vectors, as a model directory describes them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from embedkit.encoders.transformer.module_files import (
    DenseFile,
    LayerNormFile,
    NormalizeFile,
    read_file,
)
from embedkit.encoders.weights import tensor_shapes, weight_files
from embedkit.errors import ConfigError


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer with an activation.

    Attributes:
        weights: Its safetensors file, relative to the model directory.
        in_features: Components it takes.
        out_features: Components it gives.
        bias: Whether it adds a bias.
        activation: Name of a class in ``torch.nn``, from ``ACTIVATIONS``.
        residual: Whether its input is added to its output.
    """

    weights: str
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool

    @property
    def ingredient(self) -> str:
        """What it is in a recipe, where its weights are named beside it."""
        return f"{self.weights}:{self.activation}:{int(self.residual)}"

    def elsewhere(self, before: str) -> Self:
        """Returns it with something before the name of its weights."""
        return replace(self, weights=before + self.weights)


@dataclass(frozen=True)
class NormLayer:
    """A layer norm with weights of its own.

    Attributes:
        weights: Its safetensors file, relative to the model directory.
        in_features: Components it takes, and gives.
    """

    weights: str
    in_features: int

    @property
    def out_features(self) -> int:
        """Components it gives."""
        return self.in_features

    @property
    def ingredient(self) -> str:
        """What it is in a recipe, where its weights are named beside it."""
        return f"{self.weights}:LayerNorm"

    def elsewhere(self, before: str) -> Self:
        """Returns it with something before the name of its weights."""
        return replace(self, weights=before + self.weights)


@dataclass(frozen=True)
class UnitLayer:
    """Makes vectors of length 1, of however many components, before another layer."""

    weights: ClassVar[None] = None
    in_features: ClassVar[None] = None
    out_features: ClassVar[None] = None
    ingredient: ClassVar[str] = "Normalize"

    def elsewhere(self, before: str) -> Self:
        """Returns itself, as it has no weights."""
        return self


HeadLayer = DenseLayer | NormLayer | UnitLayer
HEAD_MODULES = frozenset({"Dense", "LayerNorm", "Normalize"})
"""Classes of sentence-transformers that such layers are of."""


def read_head(root: Path, modules: Iterable[tuple[str, Path]]) -> tuple[HeadLayer, ...]:
    """Reads layers in their order.

    Args:
        root: The model directory.
        modules: The class of each, from ``HEAD_MODULES``, and its directory.

    Raises:
        ConfigError: A layer is not supported, or its weights are not those of its configuration.
    """
    return tuple(_layer(root, kind, directory) for kind, directory in modules)


def _layer(root: Path, kind: str, directory: Path) -> HeadLayer:
    if kind == "Dense":
        return _dense(root, directory)
    if kind == "LayerNorm":
        return _norm(root, directory)
    read_file(NormalizeFile, directory / "config.json", missing_ok=True)
    return UnitLayer()


def _dense(root: Path, directory: Path) -> DenseLayer:
    config = read_file(DenseFile, directory / "config.json")
    shape = (config.out_features, config.in_features)
    return DenseLayer(
        weights=_weights(root, directory, "linear.weight", shape),
        in_features=config.in_features,
        out_features=config.out_features,
        bias=config.bias,
        activation=config.activation_function,
        residual=config.use_residual,
    )


def _norm(root: Path, directory: Path) -> NormLayer:
    config = read_file(LayerNormFile, directory / "config.json")
    weights = _weights(root, directory, "norm.weight", (config.dimension,))
    return NormLayer(weights=weights, in_features=config.dimension)


def _weights(root: Path, directory: Path, name: str, shape: tuple[int, ...]) -> str:
    (weights,) = weight_files(directory)
    found = tensor_shapes(weights).get(name)
    if found != shape:
        raise ConfigError(
            f"{weights}: {name} has shape {found}, but config.json says {shape}; download the "
            "model again"
        )
    return weights.relative_to(root).as_posix()
