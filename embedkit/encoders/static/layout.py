"""Finds the files of static vectors, as sentence-transformers or Model2Vec lay them out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.encoders.transformer.module_files import ModelFile, NormalizeFile, read_file
from embedkit.encoders.weights import below, read_json, weight_files
from embedkit.errors import ConfigError

_MODEL2VEC = "model2vec"


@dataclass(frozen=True)
class StaticLayout:
    """What a directory says of how texts become vectors.

    Attributes:
        weights: The safetensors file of the vectors.
        tokenizer: The file ``tokenizer.json``.
        config: The file that says what is done with them.
        normalize: Whether vectors have length 1.
        drops_unknown: Whether the token for unknown text stays out of the mean, as Model2Vec leaves
            it out; to sentence-transformers it is one like others.
        prompts: Names and texts of its prompts.
        default_prompt: Name of the prompt that it uses unless told otherwise.
        metric: How its vectors are compared.
        dimensions: Leading components that it keeps, where not all.
    """

    weights: Path
    tokenizer: Path
    config: Path
    normalize: bool = False
    drops_unknown: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    metric: str = "cosine"
    dimensions: int | None = None


def is_static(directory: Path) -> bool:
    """Tells whether a model directory is one of static vectors, whatever else may be wrong."""
    modules = _held(directory / "modules.json")
    first = modules[0] if isinstance(modules, list) and modules else None
    if isinstance(first, dict) and _kind_of(first) == "StaticEmbedding":
        return True
    return _is_model2vec(directory)


def read_layout(root: Path) -> StaticLayout:
    """Reads the files that say what a directory holds.

    Args:
        root: The model directory.

    Raises:
        ConfigError: It is no directory of static vectors, lacks a file, or would need more than
            looking vectors up.
    """
    if _is_model2vec(root):
        config = read_json(root / "config.json", dict)
        return _layout(root, root / "config.json", bool(config.get("normalize")), True, ModelFile())
    listing = root / "modules.json"
    if not listing.exists():
        raise ConfigError(
            f"{root}: neither a modules.json nor Model2Vec's config.json in it; name a directory "
            "of static vectors, as embedkit convert or train static makes them"
        )
    kinds = [_kind_of(entry) for entry in read_json(listing, list)]
    if kinds not in (["StaticEmbedding"], ["StaticEmbedding", "Normalize"]):
        raise ConfigError(
            f"{listing}: modules {', '.join(map(str, kinds)) or 'none'}; expected StaticEmbedding, "
            "and behind it Normalize or nothing"
        )
    places = [
        below(root, str(entry.get("path", "")), listing) for entry in read_json(listing, list)
    ]
    for place in places[1:]:
        read_file(NormalizeFile, place / "config.json", missing_ok=True)
    model = read_file(ModelFile, root / "config_sentence_transformers.json", missing_ok=True)
    return _layout(places[0], listing, len(kinds) > 1, False, model)


def _layout(
    directory: Path, config: Path, normalize: bool, drops_unknown: bool, model: ModelFile
) -> StaticLayout:
    files = weight_files(directory)
    if len(files) > 1:
        raise ConfigError(
            f"{directory}: static vectors in {len(files)} files; save them in one safetensors file"
        )
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(f"{tokenizer}: missing; download the model again")
    return StaticLayout(
        weights=files[0],
        tokenizer=tokenizer,
        config=config,
        normalize=normalize,
        drops_unknown=drops_unknown,
        prompts=tuple((name, text or "") for name, text in (model.prompts or {}).items()),
        default_prompt=model.default_prompt_name,
        metric=model.similarity_fn_name or "cosine",
        dimensions=model.truncate_dim,
    )


def _is_model2vec(directory: Path) -> bool:
    config = _held(directory / "config.json")
    return isinstance(config, dict) and config.get("model_type") == _MODEL2VEC


def _kind_of(entry: Any) -> str | None:
    """Returns the class of sentence-transformers that an entry of ``modules.json`` names."""
    package, _, kind = str(entry.get("type") if isinstance(entry, dict) else "").rpartition(".")
    return kind if package.split(".")[0] == "sentence_transformers" else None


def _held(file: Path) -> Any:
    """Returns what a JSON file holds, or None where there is none that can be read."""
    try:
        return json.loads(file.read_bytes()) if file.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
