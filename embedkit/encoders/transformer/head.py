"""Layers between the pooling and the vectors, as torch modules with their weights."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

from embedkit.encoders.spec import ModelIdentity
from embedkit.encoders.transformer.head_layers import DenseLayer, HeadLayer, NormLayer
from embedkit.errors import ConfigError


class Dense(nn.Module):
    """A linear layer with an activation, and its input added where the model says so."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        self.linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
        self.activation: nn.Module = getattr(nn, layer.activation)()
        self._adds_input = layer.residual
        if layer.residual and layer.in_features != layer.out_features:
            self.residual: nn.Module = nn.Linear(layer.in_features, layer.out_features, bias=False)
        else:
            self.residual = nn.Identity()

    def forward(self, vectors: Tensor) -> Tensor:
        """Maps vectors, shape (rows, in_features), to shape (rows, out_features)."""
        out: Tensor = self.activation(self.linear(vectors))
        return out + self.residual(vectors) if self._adds_input else out


class LayerNorm(nn.Module):
    """A layer norm, under the name that its weights have."""

    def __init__(self, layer: NormLayer) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(layer.in_features)

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalizes vectors, shape (rows, in_features)."""
        normed: Tensor = self.norm(vectors)
        return normed


class UnitLength(nn.Module):
    """Makes vectors of length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Divides vectors, shape (rows, components), by their lengths."""
        return functional.normalize(vectors, dim=-1)


def load_head(identity: ModelIdentity, layers: Iterable[HeadLayer]) -> nn.Sequential:
    """Loads layers, one after the other.

    Args:
        identity: The model that they are of.
        layers: The layers.

    Raises:
        ConfigError: A file does not hold the weights of its layer.
    """
    return nn.Sequential(*(_loaded(identity, layer) for layer in layers))


def _loaded(identity: ModelIdentity, layer: HeadLayer) -> nn.Module:
    from safetensors.torch import load_file

    if layer.weights is None:
        return UnitLength()
    weights = identity.file(layer.weights)
    module = Dense(layer) if isinstance(layer, DenseLayer) else LayerNorm(layer)
    try:
        module.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ConfigError(
            f"{weights}: not the weights of its config.json ({' '.join(str(error).split())})"
        ) from error
    return module
