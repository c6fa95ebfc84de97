"""Reads a LoRA adapter beside a model, all but the values of its weights; peft wrote it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, model_validator

from embedkit.encoders.model_source import model_directory
from embedkit.encoders.strange_files import check_files
from embedkit.encoders.transformer.module_files import ModelDirectoryFile, read_file
from embedkit.encoders.weights import tensor_shapes
from embedkit.errors import ConfigError

CONFIGURATION = "adapter_config.json"
"""The file that makes a directory one of an adapter."""

_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_NAME = re.compile(r"[\w.]+")
_PREFIX = "base_model.model."
_MERGE = "merge it into its model with peft's merge_and_unload, and save that"

_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""How training may have begun: other ways change the model that the adapter is for."""

_WITHOUT_EFFECT = frozenset(
    {
        *("arrow_config", "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules"),
        *("fan_in_fan_out", "inference_mode", "layers_pattern", "layers_to_transform", "r"),
        *(
            "lora_dropout",
            "lora_ga_config",
            "megatron_core",
            "modules_to_save",
            "peft_version",
            "qalora_group_size",
        ),
        *("rank_pattern", "runtime_config", "target_modules", "task_type"),
    }
)
"""What training needed, what only matters beside something else, and what the weights show."""


def _plain_names(said: dict[str, float] | None) -> dict[str, float] | None:
    strange = next((name for name in said or () if not _NAME.fullmatch(name)), None)
    if strange is not None:
        raise ValueError(f"{strange[:100]!r} is no name but a regular expression; {_MERGE}")
    return said


def _start(said: bool | str | None) -> bool | str | None:
    if said not in (None, *_STARTS):
        raise ValueError(f"{said} changes the model that the adapter is for; {_MERGE}")
    return said


class AdapterFile(ModelDirectoryFile):
    """``adapter_config.json``."""

    model_config = ConfigDict(frozen=True, protected_namespaces=(), extra="allow")

    peft_type: Literal["LORA"]
    base_model_name_or_path: str = Field(min_length=1)
    revision: str | None = None
    lora_alpha: PositiveFloat = 8
    alpha_pattern: Annotated[dict[str, PositiveFloat] | None, AfterValidator(_plain_names)] = None
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none"] = "none"
    init_lora_weights: Annotated[bool | str | None, AfterValidator(_start)] = True
    auto_mapping: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _is_plain(self) -> Self:
        extra = self.model_extra or {}
        used = sorted(name for name, said in extra.items() if said and name not in _WITHOUT_EFFECT)
        if used:
            raise ValueError(f"{used[0]} is not supported; {_MERGE}")
        library = str((self.auto_mapping or {}).get("parent_library") or "transformers")
        if library.split(".")[0] != "transformers":
            raise ValueError(
                f"auto_mapping: the adapter is for a class of {library[:100]}, and no code from a "
                f"model directory runs; {_MERGE}"
            )
        return self


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter that is merged into a transformer.

    Attributes:
        weights: Its safetensors file.
        alpha: Scale of a change, before it is divided by its rank or the rank's root.
        alphas: The same for modules of their own, by the ends of their names.
        by_root: Whether it is the rank's root.
        dora: Whether columns have lengths of their own.
    """

    weights: str
    alpha: float
    alphas: tuple[tuple[str, float], ...] = ()
    by_root: bool = False
    dora: bool = False

    @property
    def ingredient(self) -> str:
        """What it is in a recipe, where its weights are named beside it."""
        said = {"alpha": self.alpha, "alphas": dict(self.alphas), "dora": self.dora}
        return json.dumps(said | {"by_root": self.by_root}, sort_keys=True)


def read_adapter(directory: Path) -> tuple[Adapter, Path] | None:
    """Reads the adapter in a directory, if there is one.

    Returns:
        The adapter and the directory of the model that it is for.

    Raises:
        ConfigError: It is of a kind that is not supported, damaged, or its model is not there.
    """
    file = directory / CONFIGURATION
    if not file.is_file():
        return None
    config = read_file(AdapterFile, file)
    weights = directory / _WEIGHTS
    if not weights.is_file():
        raise _no_weights(directory)
    shapes = tensor_shapes(weights)
    if strange := next((name for name in shapes if not name.startswith(_PREFIX)), None):
        raise ConfigError(
            f"{weights}: tensor {strange[:200]} is not one of a LoRA adapter as peft saves them, "
            f"whose names begin with {_PREFIX}; save it with peft's save_pretrained"
        )
    adapter = Adapter(
        weights=str(weights),
        alpha=config.lora_alpha,
        alphas=tuple((config.alpha_pattern or {}).items()),
        by_root=config.use_rslora,
        dora=config.use_dora,
    )
    return adapter, _base(directory, config)


def _no_weights(directory: Path) -> ConfigError:
    if (directory / _PICKLE).is_file():
        return ConfigError(
            f"{directory / _PICKLE}: a pickle could run code, so only safetensors are read; load "
            f"the adapter once with peft and save it again, which writes {_WEIGHTS}"
        )
    return ConfigError(
        f"{directory / _WEIGHTS}: missing, but {CONFIGURATION} says that there is an adapter; "
        "download it again"
    )


def _base(directory: Path, config: AdapterFile) -> Path:
    """Finds the model that an adapter is for: beside it, from where the process is, or a hub's."""
    file, said = directory / CONFIGURATION, config.base_model_name_or_path
    beside = directory / said
    if not said.startswith("~") and beside.is_dir():
        found = beside.resolve()
    else:
        name = said if not config.revision or "@" in said else f"{said}@{config.revision}"
        try:
            found, _ = model_directory(said if Path(said).is_absolute() else name)
        except ConfigError as error:
            raise ConfigError(
                f"{file}: the adapter is for the model {said[:200]!r}, which is not found "
                f"({error}); write its directory to base_model_name_or_path"
            ) from error
    if (found / CONFIGURATION).is_file():
        raise ConfigError(
            f"{file}: the adapter is for {found}, which is an adapter itself; merge that into its "
            "model with peft's merge_and_unload, and save the model"
        )
    check_files(found)
    return found
