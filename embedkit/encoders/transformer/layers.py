"""The layers that make up a transformer, whatever its own code calls them."""

from torch import nn


def repeated_layers(transformer: nn.Module) -> list[nn.Module]:
    """Returns a model's layers: its largest list of modules, or none where it has no list."""
    lists = [part for part in transformer.modules() if isinstance(part, nn.ModuleList)]
    return list(max(lists, key=_parameters, default=()))


def _parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())
