"""Which position a model's own code gives to a token, by its place in its row."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from embedkit.encoders.transformer.layers import repeated_layers
from embedkit.encoders.transformer.stream.attention import STREAM_ATTENTION, attention_of
from embedkit.encoders.transformer.trial import fills_of

_FEW = 8


class _Reached(Exception):
    """The first layer is reached: all positions are given by then."""


@dataclass(frozen=True)
class Positions:
    """The positions of a model.

    Attributes:
        of_places: Position of a row's token by its place, int64, shape (longest,).
        skipped: Ids that count for none where they stand in a text.
    """

    of_places: Tensor
    skipped: tuple[int, ...]


def positions_of(transformer: nn.Module, longest: int, pad_id: int) -> Positions:
    """Looks which positions a model looks up, without running its layers.

    Args:
        transformer: A model of transformers, on the CPU.
        longest: Most tokens of a row.
        pad_id: Id that fills batches.

    Returns:
        What it looks up in a table of its own; for models that have none, the places themselves,
        which they turn into angles or biases.

    Raises:
        NotImplementedError: A token's position depends on how long the longest row beside it is.
    """
    # With an attention that needs no masks: of the longest row they may take gigabytes.
    with attention_of(transformer, STREAM_ATTENTION):
        return _positions_of(transformer, longest, pad_id)


def _positions_of(model: Any, longest: int, pad_id: int) -> Positions:
    fills = fills_of(model, pad_id)
    other = min({0, 1, 2}.difference(fills))
    row = torch.full((1, longest), other, dtype=torch.int64)
    plain, given = _begin(model, row)
    _check_alone(given, _begin(model, row[:, :_FEW])[1], longest)
    if plain is None:
        return Positions(torch.arange(longest), skipped=())
    return Positions(plain, tuple(one for one in fills if _is_skipped(model, row, plain, one)))


def _is_skipped(model: Any, row: Tensor, plain: Tensor, one: int) -> bool:
    filled = row.clone()
    filled[0, row.shape[1] // 2] = one
    seen, _ = _begin(model, filled)
    return seen is None or not torch.equal(seen, plain)


def _check_alone(given: list[Tensor], alone: list[Tensor], longest: int) -> None:
    """Checks that tokens begin in a long row as in a short one, which in a stream stand together.

    Raises:
        NotImplementedError: They do not.
    """
    few = min(_FEW, longest)
    for long, short in zip(given, alone, strict=True):
        if long.shape[1:2] == (longest,) and short.shape[1:2] == (few,):
            if not torch.allclose(long[:, :few], short, atol=1e-5):
                raise NotImplementedError("tokens that stand elsewhere where longer rows are near")


def _begin(model: Any, row: Tensor) -> tuple[Tensor | None, list[Tensor]]:
    """Runs a model up to its layers.

    Returns:
        The ids that rise with the place, as it looks them up for a row, and what is handed to the
        first layer.
    """
    found: list[Tensor] = []
    given: list[Tensor] = []
    words = model.get_input_embeddings()

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        ids = arguments[0].reshape(-1)
        if module is not words and len(ids) == row.shape[1]:
            found.append(ids)

    def stop(module: nn.Module, arguments: Any, keywords: Any) -> None:
        given.extend(
            one
            for one in tree_leaves((arguments, keywords))
            if isinstance(one, Tensor) and (one.is_floating_point() or one.is_complex())
        )
        raise _Reached

    hooks = [
        part.register_forward_pre_hook(note)
        for part in model.modules()
        if isinstance(part, nn.Embedding)
    ]
    hooks.append(repeated_layers(model)[0].register_forward_pre_hook(stop, with_kwargs=True))
    try:
        with torch.inference_mode():
            model(input_ids=row)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    rising = [ids for ids in found if len(ids) == 1 or bool((ids.diff() != 0).any())]
    return (rising[0].clone() if rising else None), given
