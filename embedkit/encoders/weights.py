"""Finds, checks and hashes the files of a model directory: safetensors, JSON and tokenizers."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from embedkit.errors import ConfigError

J = TypeVar("J", dict[str, Any], list[Any])

BASE = "base:"
"""What names of files of another model begin with that a model only changes."""

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = ("*.txt", "*.model", "*token*.json", "vocab.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def weight_files(directory: Path) -> tuple[Path, ...]:
    """Finds the safetensors files of a module.

    Args:
        directory: The module's own directory.

    Returns:
        ``model.safetensors``, or the shards that its index names, in order of their names.

    Raises:
        ConfigError: There are none, one is missing, or one is no safetensors file.
    """
    if (directory / _SINGLE).is_file():
        files = [directory / _SINGLE]
    elif (directory / _INDEX).is_file():
        files = _shards(directory / _INDEX)
    else:
        raise _no_weights(directory)
    for file in files:
        tensor_shapes(file)
    return tuple(files)


def has_weights(directory: Path) -> bool:
    """Tells whether a module has safetensors files, damaged or not."""
    return any((directory / name).is_file() for name in (_SINGLE, _INDEX))


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Reads the names and shapes of a file's tensors, and none of their values.

    Raises:
        ConfigError: The file is damaged or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"{file}: not a whole safetensors file ({error}); download the model again"
        ) from error


def tensor_rows(file: Path, name: str, rows: Sequence[int]) -> Any:
    """Reads some rows of a matrix, and no others.

    Args:
        file: A safetensors file.
        name: The matrix.
        rows: Numbers of its rows.

    Returns:
        A float32 tensor of torch, shape (rows, width).
    """
    import torch
    from safetensors import safe_open

    with safe_open(file, framework="pt") as tensors:
        matrix = tensors.get_slice(name)
        return torch.cat([matrix[row : row + 1].float() for row in rows])


def weight_name(file: Path, root: Path, base: Path | None = None) -> str:
    """Returns the name of a safetensors file, wherever the directories are.

    Args:
        file: The file.
        root: The model directory.
        base: Directory of the model that it only changes, if it does.
    """
    if base is None or file.is_relative_to(root):
        return file.relative_to(root).as_posix()
    return BASE + file.relative_to(base).as_posix()


def weight_file(name: str, root: Path, base: Path | None = None) -> Path:
    """Returns the file that ``weight_name`` named."""
    if base is not None and name.startswith(BASE):
        return base / name.removeprefix(BASE)
    return root / name


def weights_hash(files: Iterable[Path], root: Path, base: Path | None = None) -> str:
    """Returns the SHA-256 of a single file, or of all names and SHA-256s where there are several.

    Args:
        files: Safetensors files.
        root: The model directory, which names are relative to.
        base: Directory of the model that it only changes, if it does.
    """
    hashes = [(weight_name(file, root, base), file_hash(file)) for file in files]
    if len(hashes) == 1:
        return hashes[0][1]
    lines = "".join(f"{name} {value}\n" for name, value in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()


def tokenizer_hash(directory: Path) -> str:
    """Returns the SHA-256 over the names and SHA-256s of a tokenizer's files."""
    files = {file for pattern in _TOKENIZER_FILES for file in directory.glob(pattern)}
    lines = "".join(f"{file.name} {file_hash(file)}\n" for file in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def file_hash(file: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def read_json(file: Path, kind: type[J]) -> J:
    """Reads a JSON file of a model directory.

    Args:
        file: The file.
        kind: ``dict`` or ``list``, whichever it must hold.

    Raises:
        ConfigError: It is missing, no JSON, or holds something else.
    """
    try:
        if file.exists() and not file.is_file():
            raise ConfigError(f"{file}: not a regular file, so it is not read; take it away")
        found = json.loads(file.read_bytes())
    except RecursionError as error:
        raise ConfigError(f"{file}: nested too deep; download the model again") from error
    except OSError as error:
        raise ConfigError(
            f"{file}: cannot be read ({error.strerror}); is this a model's directory?"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON ({error}); download the model again") from error
    if not isinstance(found, kind):
        raise ConfigError(
            f"{file}: expected a JSON {kind.__name__}, found a {type(found).__name__}; "
            "download the model again"
        )
    return found


def below(directory: Path, name: str, file: Path) -> Path:
    """Returns a path that a model's file names, if it stays below the model's directory.

    Args:
        directory: The model's directory.
        name: The relative path.
        file: The file that names it, for the message.

    Raises:
        ConfigError: It leads out of the directory.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ConfigError(
            f"{file}: {name!r} leads out of the model's directory; it is not followed"
        )
    return directory / path


def _shards(index: Path) -> list[Path]:
    names = read_json(index, dict).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ConfigError(f"{index}: no weight_map; download the model again")
    files = [below(index.parent, name, index) for name in sorted(set(map(str, names.values())))]
    for file in files:
        if not file.is_file():
            raise ConfigError(
                f"{file}: named by {index.name} but missing; download the model again"
            )
    return files


def _no_weights(directory: Path) -> ConfigError:
    pickles = [name for name in _PICKLES if (directory / name).is_file()]
    if pickles:
        return ConfigError(
            f"{directory / pickles[0]}: a pickle could run code, so only safetensors are read; "
            "load the model once with transformers or sentence-transformers and save it again, "
            "which writes model.safetensors"
        )
    return ConfigError(f"{directory}: no {_SINGLE} in it; is this a model's directory?")
