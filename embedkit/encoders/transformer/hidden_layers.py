"""Which hidden layers of a transformer vectors are made of: ``--layers``."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from embedkit.errors import ConfigError

Joining = Literal["sum", "mean", "concat"]

_GIVEN = re.compile(r"(?P<first>-?\d{1,9})(\.\.(?P<last>-?\d{1,9}))?(:(?P<joining>\w*))?", re.ASCII)


@dataclass(frozen=True)
class HiddenLayers:
    """The hidden layers that vectors are made of, and how several become one.

    Attributes:
        numbers: Their numbers, rising, of which 0 is the embedding layer.
        joining: ``sum``, ``mean`` or ``concat``, which puts them one behind the other in each
            vector; of one layer all of these are the same.
    """

    numbers: tuple[int, ...]
    joining: Joining = "sum"

    @property
    def joined(self) -> int:
        """How many times wider a vector is than the model."""
        return len(self.numbers) if self.joining == "concat" else 1

    def __str__(self) -> str:
        """Returns it as ``read_layers`` reads it; equal layers give equal text."""
        first, last = self.numbers[0], self.numbers[-1]
        return str(first) if first == last else f"{first}..{last}:{self.joining}"


def read_layers(given: str, layers: int, model: str) -> HiddenLayers | None:
    """Reads which hidden layers are wanted.

    Args:
        given: A number, or two of them joined by ``..`` and with ``:sum``, ``:mean`` or
            ``:concat`` behind them. They count from 0, the embedding layer, or backwards from -1.
        layers: Layers of the model beside that.
        model: Its directory, for the message.

    Returns:
        The layers; None for the last one alone, whose output is the model's own.

    Raises:
        ConfigError: It cannot be read, or the model has no such layers.
    """
    match = _GIVEN.fullmatch(given.strip())
    if match is None:
        raise ConfigError(
            f"layers is {given[:100]!r}, expected one such as -2, or a range and how to join it, "
            "such as -4..-1:sum"
        )
    first = _number(match["first"], given, layers, model)
    last = first if match["last"] is None else _number(match["last"], given, layers, model)
    if first > last:
        raise ConfigError(f"layers is {given}, but {match['first']} is above {match['last']}")
    joining = _joining(match["joining"], given, several=match["last"] is not None)
    if first == last:
        return None if first == layers else HiddenLayers((first,))
    return HiddenLayers(tuple(range(first, last + 1)), joining)


def _number(given: str, whole: str, layers: int, model: str) -> int:
    number = int(given)
    if not -layers - 1 <= number <= layers:
        raise ConfigError(
            f"layers is {whole}, but {model} has {layers} layers; take numbers from 0, the "
            f"embedding layer, to {layers}, or from {-layers - 1} to -1"
        )
    return number + layers + 1 if given.startswith("-") else number


def _joining(given: str | None, whole: str, several: bool) -> Joining:
    for known in get_args(Joining):
        if given == known:
            joining: Joining = known
            return joining
    if given is None and not several:
        return "sum"
    raise ConfigError(
        f"layers is {whole}, which leaves open how they become one; put :sum, :mean or :concat "
        "behind them"
    )
