"""Which tokenizer a model's texts go through: its own, or that of another directory."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.model_source import model_directory
from embedkit.encoders.strange_files import check_files
from embedkit.encoders.transformer.foreign_code import TOKENIZER_FILES, foreign_classes
from embedkit.encoders.transformer.model_modules import ModelLayout
from embedkit.encoders.transformer.module_files import read_modules
from embedkit.encoders.transformer.tokenizer_match import match_tokenizer
from embedkit.encoders.weights import below, tokenizer_hash
from embedkit.errors import ConfigError
from embedkit.tokens.tokenization import read_tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenTokenizer:
    """The tokenizer of a model.

    Attributes:
        loaded: What ``read_tokenizer`` returned.
        directory: Where its files are.
        given: The directory or hub id as the job gives it; empty where it is the model's own.
        ignored_code: Classes that its directory names for itself, see ``foreign_classes``.
    """

    loaded: Any
    directory: Path
    given: str = ""
    ignored_code: tuple[str, ...] = ()


def choose_tokenizer(config: ModelConfig, transformer: Path) -> ChosenTokenizer:
    """Reads the tokenizer that a job asks for.

    Args:
        config: The job's wishes.
        transformer: Directory of the transformer and its own tokenizer.

    Raises:
        ConfigError: It cannot be found or read, or would need foreign code.
    """
    if config.tokenizer is None:
        return ChosenTokenizer(read_tokenizer(str(transformer)), transformer)
    root, _ = model_directory(config.tokenizer, "tokenizer")
    check_files(root)
    directory = _place_of_tokenizer(root)
    ignored = foreign_classes(directory, config.ignore_auto_map, TOKENIZER_FILES)
    loaded = read_tokenizer(str(directory))
    if tokenizer_hash(directory) == tokenizer_hash(transformer):
        return ChosenTokenizer(loaded, transformer)
    return ChosenTokenizer(loaded, directory, config.tokenizer, ignored)


def _place_of_tokenizer(root: Path) -> Path:
    """Returns the folder of the transformer where a directory lists modules, else itself."""
    listing = root / "modules.json"
    if not listing.is_file():
        return root
    modules = read_modules(listing)
    places = [below(root, one.path, listing) for one in modules if one.kind == "Transformer"]
    return places[0] if places else root


def check_match(
    chosen: ChosenTokenizer,
    config: ModelConfig,
    transformer: Any,
    layout: ModelLayout,
    weights: Sequence[Path],
) -> str:
    """Refuses a tokenizer that does not belong to the model, unless the job allows it.

    Args:
        chosen: The tokenizer; nothing is asked of the model's own.
        config: The job's wishes.
        transformer: The model's configuration.
        layout: What the model directory says.
        weights: The transformer's safetensors files; may be none.

    Returns:
        Why it does not belong to the model, where that is allowed; empty where it does.

    Raises:
        ConfigError: It does not.
    """
    if not chosen.given:
        return ""
    own = _own_tokenizer(layout.tokenizer)
    match = match_tokenizer(chosen.loaded, own, transformer, layout.transformer, weights)
    mismatch = match.mismatch
    if not mismatch:
        return ""
    said = f"tokenizer {chosen.given} does not belong to {config.model}: {mismatch}"
    if not config.allow_tokenizer_mismatch:
        raise ConfigError(
            f"{said}; take the one that the model was trained with, or embed with this one all the "
            "same by --allow-tokenizer-mismatch"
        )
    _log.warning("%s; vectors of another meaning than the model's are allowed", said)
    return mismatch


def _own_tokenizer(directory: Path) -> Any | None:
    try:
        return read_tokenizer(str(directory))
    except ConfigError as error:
        _log.info("the tokenizer is compared with the model's weights alone, as %s", error)
        return None
