"""Checks the transformer that a ``config.json`` describes before its weights are loaded."""

import copy
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from embedkit.encoders.weights import read_json, tensor_shapes
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.tokens.transformers_library import quiet_transformers, transformers_library

_MOST_POSITIONS = 1 << 24
_COUNTS = ("layer", "expert")
_FEW = 256

FindClass = Callable[[Any, str], Any]
"""Finds the library's class for a configuration and its directory, as ``model_class`` does."""


def transformer_config(directory: Path) -> Any:
    """Reads a transformer's configuration with the transformers library.

    Args:
        directory: The transformer's directory.

    Returns:
        The configuration, whose numbers are such that one can calculate with them.

    Raises:
        ConfigError: It is damaged, of a kind that is not supported, or makes no sense.
    """
    auto_config = transformers_library().AutoConfig
    file = directory / "config.json"
    raw = read_json(file, dict)
    if "quantization_config" in raw:
        raise ConfigError(f"{file}: quantized weights are not supported; take the model's original")
    try:
        with quiet_transformers():
            config = auto_config.from_pretrained(
                directory, trust_remote_code=False, local_files_only=True
            )
    # The library raises whatever the configuration's classes stumble over.
    except Exception as error:
        reason = (
            "it needs code from its directory, which never runs"
            if raw.get("auto_map")
            else one_line(error, only_first=True)
        )
        raise ConfigError(
            f"{file}: model type {str(raw.get('model_type'))[:100]!r} cannot be used ({reason}); "
            "expected an encoder that the installed transformers library knows"
        ) from error
    _check_numbers(config, file)
    return config


def _check_numbers(config: Any, file: Path) -> None:
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise ConfigError(f"{file}: no hidden_size; expected a text encoder's configuration")
    limits = {
        "hidden_size": (1, _MOST_POSITIONS),
        "vocab_size": (1, _MOST_POSITIONS),
        "max_position_embeddings": (-1, _MOST_POSITIONS),
    }
    vocabulary = getattr(config, "vocab_size", None)
    if isinstance(vocabulary, int):
        limits["pad_token_id"] = (-vocabulary, vocabulary - 1)
    for name, (least, most) in limits.items():
        value = getattr(config, name, None)
        if value is None and name != "vocab_size":
            continue
        if not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(
                f"{file}: {name} is {str(value)[:100]!r}, expected a number from {least:,} to "
                f"{most:,}; download the model again"
            )


def check_architecture(
    config: Any, directory: Path, weights: Iterable[Path], find_class: FindClass | None = None
) -> None:
    """Builds the transformer without its weights, and checks that they can belong to it.

    Args:
        config: Its configuration.
        directory: Its directory.
        weights: Its safetensors files.
        find_class: Finds the library's class, ``model_class`` unless given.

    Raises:
        ConfigError: The configuration describes nothing that can be built, or something many
            times larger than the weights.
    """
    shapes = [shape for file in weights for shape in tensor_shapes(file).values()]
    file = directory / "config.json"
    for name, value in read_json(file, dict).items():
        is_count = isinstance(value, int) and any(word in name for word in _COUNTS)
        if is_count and value > max(_FEW, len(shapes)):
            raise ConfigError(
                f"{file}: {name} is {value}, but the weights have {len(shapes)} tensors only; "
                "download the model again"
            )
    model = _without_weights((find_class or model_class)(config, str(directory)), config, file)
    sizes = [one.numel() for part in (model.parameters(), model.buffers()) for one in part]
    held = sum(math.prod(shape) for shape in shapes)
    if sum(sizes) > 4 * held + _MOST_POSITIONS:
        raise ConfigError(
            f"{file}: describes a model of {sum(sizes):,} numbers, but the weights hold {held:,}; "
            "take weights that belong to it"
        )


def input_embeddings(config: Any, directory: Path) -> tuple[str, tuple[int, ...]]:
    """Returns the name of the matrix of a transformer's token embeddings, and its shape.

    Args:
        config: Its configuration.
        directory: Its directory, for messages.

    Raises:
        ConfigError: The configuration describes nothing that can be built.
    """
    kind = model_class(config, str(directory))
    model = _without_weights(kind, config, directory / "config.json")
    weight = model.get_input_embeddings().weight
    names = (name for name, parameter in model.named_parameters() if parameter is weight)
    return next(names), tuple(weight.shape)


def _without_weights(kind: Any, config: Any, file: Path) -> Any:
    import torch

    config = copy.deepcopy(config)
    config._attn_implementation = "eager"
    try:
        with quiet_transformers(), torch.device("meta"):
            return kind(config)
    # Whatever a model's constructor stumbles over: a division by zero, an assertion, a lookup.
    except Exception as error:
        what = one_line(error, only_first=True)
        raise ConfigError(
            f"{file}: no model can be built from it ({type(error).__name__}: {what}); "
            "download the model again"
        ) from error


def model_class(config: Any, directory: str) -> Any:
    """Returns the library's class of a text encoder for a configuration.

    Raises:
        ConfigError: The library has none.
    """
    library = transformers_library()
    # The first mapping has the encoders alone of models that decode as well, such as T5's.
    found = library.MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if found is None and not config.is_encoder_decoder:
        found = library.MODEL_MAPPING.get(type(config), None)
    if found is None:
        raise ConfigError(
            f"{directory}: no text encoder for model type {config.model_type!r} in the installed "
            "transformers library"
        )
    return found[0] if isinstance(found, (tuple, list)) else found


def attends_by_interface(config: Any, directory: str) -> bool:
    """Tells whether a transformer leaves its attention to a function that it can be given.

    Those that add biases of their own to the products do not.

    Raises:
        ConfigError: The library has no such transformer.
    """
    return bool(getattr(model_class(config, directory), "_supports_flash_attn", False))
