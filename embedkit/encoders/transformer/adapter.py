"""Merges a LoRA adapter into the weights of a transformer, in float32."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import NoReturn

import torch
from torch import Tensor, nn

from embedkit.encoders.transformer.adapter_files import Adapter
from embedkit.errors import ConfigError
from embedkit.tokens.transformers_library import transformers_library

_PREFIX = "base_model.model."
_FACTORS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".lora_magnitude_vector": "lengths",
    ".lora_magnitude_vector.weight": "lengths",
}
_HEADS = frozenset(
    {"classifier", "cls", "decoder", "lm_head", "pre_classifier", "qa_outputs", "score"}
)
"""Modules of models for a task that no text's vector depends on."""


def merge_adapter(transformer: nn.Module, adapter: Adapter) -> None:
    """Merges an adapter into a transformer that was loaded in float32 on the CPU.

    A change is the product of two small matrices, scaled (Hu et al., LoRA, 2021). With DoRA (Liu et
    al., 2024) the sum with the weights is brought to lengths of its own, per output.

    Args:
        transformer: The transformer, whose weights are changed.
        adapter: The adapter.

    Raises:
        ConfigError: The adapter is not one for this transformer.
    """
    from safetensors.torch import load_file

    changes: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    held = dict(transformer.named_parameters())
    replaced = False
    for name, tensor in load_file(adapter.weights).items():
        place = _in_transformer(name, transformer)
        if place is None:
            continue
        suffix = next((end for end in _FACTORS if place.endswith(end)), None)
        if suffix is not None:
            changes[place.removesuffix(suffix)][_FACTORS[suffix]] = tensor.float()
        else:
            _replace(held, place.replace(".base_layer.", "."), tensor, adapter)
            replaced = True
    if not changes and not replaced:
        raise ConfigError(
            f"{adapter.weights}: no tensor in it is for the encoder, so that nothing would be "
            "changed; take the model that it was made for, or that one without it"
        )
    modules = dict(transformer.named_modules())
    for name, factors in changes.items():
        with torch.no_grad():
            _merge(modules.get(name), name, factors, adapter)


def _in_transformer(name: str, transformer: nn.Module) -> str | None:
    """Returns a tensor's name as the transformer has it; None where it is part of a head.

    The adapter may have been trained with a model for a task around the transformer.
    """
    known = {name for name, _ in transformer.named_children()}
    place = name.removeprefix(_PREFIX)
    if place.split(".")[0] in known:
        return place
    inner = place.removeprefix(f"{getattr(transformer, 'base_model_prefix', '')}.")
    return None if inner == place and place.split(".")[0] in _HEADS else inner


def _replace(held: dict[str, nn.Parameter], name: str, tensor: Tensor, adapter: Adapter) -> None:
    """Puts a tensor that the adapter has as a whole in the place of the transformer's own."""
    if name not in held or held[name].shape != tensor.shape:
        _refuse(adapter, name, held[name].shape if name in held else (), tensor.shape)
    with torch.no_grad():
        held[name].copy_(tensor)


def _merge(
    module: nn.Module | None, name: str, factors: dict[str, Tensor], adapter: Adapter
) -> None:
    wanted = {"a", "b", "lengths"} if adapter.dora else {"a", "b"}
    if factors.keys() != wanted:
        lacks = ", ".join(sorted(wanted ^ factors.keys()))
        raise ConfigError(
            f"{adapter.weights}: {name} has not exactly the tensors of its kind of adapter (see "
            f"{lacks}); download it again"
        )
    # Of some classes the weights have a row for each input, of others one for each output.
    conv = transformers_library().pytorch_utils.Conv1D
    by_input = isinstance(module, (conv, nn.Embedding))
    if not isinstance(module, (nn.Linear, nn.Embedding, conv)) or (
        adapter.dora and isinstance(module, nn.Embedding)
    ):
        kind = "no module" if module is None else f"a {type(module).__name__}"
        raise ConfigError(
            f"{adapter.weights}: changes {name}, which is {kind} of the model and cannot be "
            "changed so; take the model that it was made for"
        )
    a, b = factors["a"], factors["b"]
    weight: Tensor = module.weight.T if by_input else module.weight
    if (
        a.dim() != 2
        or b.dim() != 2
        or (b.shape[0], a.shape[1], a.shape[0])
        != (
            *weight.shape,
            b.shape[1],
        )
    ):
        _refuse(adapter, name, weight.shape, (b.shape[0], a.shape[-1]))
    changed = weight + _scale(adapter, name, len(a)) * (b @ a)
    if adapter.dora:
        lengths = factors["lengths"].flatten()
        if lengths.shape != changed.shape[:1]:
            _refuse(adapter, name, changed.shape[:1], lengths.shape)
        changed = changed * (lengths / changed.norm(dim=1))[:, None]
    weight.copy_(changed)


def _scale(adapter: Adapter, name: str, rank: int) -> float:
    own = (alpha for end, alpha in adapter.alphas if name == end or name.endswith(f".{end}"))
    return next(own, adapter.alpha) / (math.sqrt(rank) if adapter.by_root else rank)


def _refuse(adapter: Adapter, name: str, held: Iterable[int], found: Iterable[int]) -> NoReturn:
    raise ConfigError(
        f"{adapter.weights}: {name} has shape {tuple(found)}, but the model has {tuple(held)} "
        "there; take the model that it was made for"
    )
