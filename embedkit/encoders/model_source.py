"""Finds the directory of a model, and downloads it from the hub where it is not here."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]
_OF_TOKENIZER = ["*.json", "*.txt", "*.model"]
_ONNX = "onnx/*"
_UNWANTED = [_ONNX, "openvino/*", "*.bin.index.json"]


def model_directory(
    model: str,
    role: Literal["model", "tokenizer"] = "model",
    onnx_files: Sequence[str] = (),
) -> tuple[Path, str | None]:
    """Finds a model on disk, or fetches it from the Hugging Face hub.

    Args:
        model: A directory, or a hub id as NAME or NAME@REVISION.
        role: What is wanted of it: a model with its tokenizer, or a tokenizer alone.
        onnx_files: The ONNX files that are wanted as well, as far as the hub has them.

    Returns:
        The directory, and the hub's commit hash (None for a directory of the user's own).

    Raises:
        ConfigError: There is no such directory and no such model on the hub or in its cache.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory.resolve(), None
    name, _, revision = model.partition("@")
    if not _HUB_ID.fullmatch(name) or model.startswith((".", "~")):
        raise ConfigError(
            f"{role} {model}: no such directory, and not a hub id (NAME or NAME@REVISION) either"
        )
    return _fetch(name, revision or None, role, onnx_files)


def _fetch(
    name: str, revision: str | None, role: str, onnx_files: Sequence[str]
) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = f"{role} {name}@{revision}" if revision else f"{role} {name}"
    # Their weights may lie beside them, under names that begin as theirs do.
    beside = [f"{file}*" for file in onnx_files]
    wanted = [*(_OF_TOKENIZER if role == "tokenizer" else _WANTED), *beside]
    unwanted = [one for one in _UNWANTED if not (beside and one == _ONNX)]
    try:
        path = snapshot_download(
            name, revision=revision, allow_patterns=wanted, ignore_patterns=unwanted
        )
    except LocalEntryNotFoundError as error:
        raise ConfigError(
            f"{label}: no such directory, not in the hub's cache, and the hub cannot be "
            "reached (or HF_HUB_OFFLINE is set); give a directory, or download it where there is a "
            "network"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise ConfigError(
            f"{label}: no such directory, and the hub has no such model or revision "
            f"({one_line(error, only_first=True)}); check the name, and HF_TOKEN if it is private"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        what = one_line(error, only_first=True)
        raise ConfigError(
            f"{label}: the hub could not be read ({what}); give a directory, or try again"
        ) from error
    commit = Path(path).name
    if not _COMMIT.fullmatch(commit):
        raise ConfigError(f"{label}: {path} is not a snapshot of the hub's cache")
    return Path(path), commit
