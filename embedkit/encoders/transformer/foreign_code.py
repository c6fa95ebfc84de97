"""Finds the classes that a model directory brings along; their code never runs."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.encoders.weights import read_json
from embedkit.errors import ConfigError

TOKENIZER_FILES = ("tokenizer_config.json", "processor_config.json")
"""Those that may name classes of a tokenizer."""

_FILES = ("config.json", *TOKENIZER_FILES)
# Heads are not loaded: what is under them is a class of the library.
_HEADS = re.compile(r"(TF|Flax)?AutoModelFor(?!TextEncoding)\w+|(TF|Flax)AutoModel")


def foreign_classes(
    directory: Path, ignored: bool, files: Sequence[str] = _FILES, head: str = ""
) -> tuple[str, ...]:
    """Finds the classes that a directory names to be loaded in place of the library's.

    Args:
        directory: The transformer's directory.
        ignored: Whether the library's classes are to take their place.
        files: Names of the files that may name them.
        head: The kind of class with a head that is loaded, where one is, such as
            ``AutoModelForSequenceClassification``.

    Returns:
        Those that are ignored, as ``AutoModel=module.Class``, in order.

    Raises:
        ConfigError: There are some, and they are not to be ignored.
    """
    found: dict[str, Path] = {}
    for name in files:
        file = directory / name
        if file.is_file():
            auto_map = read_json(file, dict).get("auto_map") or {}
            found.update((said, file) for said in _classes(auto_map, file, head))
    if found and not ignored:
        said, file = sorted(found.items())[0]
        kind, _, reference = said.partition("=")
        raise ConfigError(
            f"{file}: auto_map names {reference[:200]} as {kind[:100]}: it needs code from its "
            "directory, which never runs, and the library's own class may give other vectors; take "
            "a model without auto_map, or --ignore-auto-map to run the library's class all the same"
        )
    return tuple(sorted(found))


def _classes(auto_map: Any, file: Path, head: str) -> list[str]:
    # Older tokenizers have the list of their slow and fast class alone.
    if isinstance(auto_map, list):
        auto_map = {"AutoTokenizer": auto_map}
    if not isinstance(auto_map, dict):
        raise ConfigError(f"{file}: auto_map is no object; download the model again")
    named = {}
    for kind, references in auto_map.items():
        several = references if isinstance(references, list) else [references]
        classes = [str(one) for one in several if one]
        if classes and (kind == head or not _HEADS.fullmatch(kind)):
            named[kind] = "/".join(classes)
    return [f"{kind}={classes}" for kind, classes in named.items()]
