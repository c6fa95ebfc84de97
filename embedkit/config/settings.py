"""What all settings have in common, and the names that a user's columns cannot have."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from embedkit.errors import ConfigError
from embedkit.errors.settings import sentence
from embedkit.errors.wrong_kinds import at_home

MIB = 1 << 20
RESERVED_COLUMNS = frozenset(
    "id doc_id chunk_index char_start char_end text_hash source row_index "
    "text input_ids n_tokens truncated line_in_range embedding".split()
)
"""Names of the columns of parts, which a metadata column cannot have."""
_OF_OTHER_VALUES = frozenset({"embeddings", "spans", "tokens", "score", "scores"})
_PATHS = ("inputs", "base", "model", "tokenizer", "onnx_file", "output", "sts", "retrieval")
"""Names of files, which need not be text; whoever opens them says so."""


_OF_INPUTS = ("inputs", "model", "tokenizer", "sts", "retrieval")
"""Those that are read, of which an empty name would be the working directory."""
_AT_HOME = ("model", "tokenizer", "output", "sts", "retrieval")
"""Those in which ``~`` is the user's own folder; whoever lists inputs sees to theirs."""


def reserved_columns(column: str = "embedding") -> frozenset[str]:
    """Returns the names that a metadata column cannot have.

    Args:
        column: The column of the version that holds what was computed, see ``value_column``: the
            names of others than ``embedding`` are the user's own where it has them not.
    """
    return RESERVED_COLUMNS if column == "embedding" else RESERVED_COLUMNS | _OF_OTHER_VALUES


def _kinds(annotation: Any) -> list[Any]:
    return [annotation, *(kind for part in get_args(annotation) for kind in _kinds(part))]


def _spelled(value: Any) -> Any:
    if isinstance(value, list | tuple | Iterator):
        return [_spelled(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _expanded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_expanded(one) for one in value]
    return at_home(value) if isinstance(value, str) else value


class Settings(BaseModel):
    """Settings that cannot change, checked alike whatever they are of."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    def __init__(self, **values: Any) -> None:
        """Checks the settings, each given by its name.

        Raises:
            ConfigError: A setting is unknown, missing or out of range.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(sentence(error)) from error

    # What reads settings from a file has words of its own, and asks for no call of the above.
    vars(__init__)["__pydantic_base_init__"] = True

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, values: Any) -> Any:
        # One value where a list is expected is a list of one.
        for name, value in list(values.items()) if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            is_list = field is not None and get_origin(field.annotation) is tuple
            if is_list and isinstance(value, str | os.PathLike):
                values = values | {name: (value,)}
            no_list = isinstance(value, set | frozenset | Mapping) or hasattr(value, "columns")
            if is_list and no_list:
                raise ValueError(f"{name}: expected a list, got {type(value).__name__}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _places(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        paths = {name: _spelled(values[name]) for name in _PATHS if name in values}
        for name, value in paths.items():
            given = value if isinstance(value, list | tuple) else (value,)
            if name in _OF_INPUTS and any(isinstance(one, str) and not one for one in given):
                raise ValueError(f"{name}: an empty name is none of a file; give one")
        expanded = {name: _expanded(paths[name]) for name in _AT_HOME if name in paths}
        return values | paths | expanded

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, values: Any) -> Any:
        # To Python true is a 1.
        for name, value in values.items() if isinstance(values, dict) else ():
            field = cls.model_fields.get(name)
            kinds = [] if field is None else _kinds(field.annotation)
            if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
                raise ValueError(f"{name}: expected a number, not true or false")
        return values

    @model_validator(mode="after")
    def _texts(self) -> Self:
        for name, value in self:
            texts = value if isinstance(value, tuple) else (value,)
            try:
                _ = name in _PATHS or "".join(map(str, texts)).encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{name}: holds half a character, which is no text") from error
        return self


def comma_separated(value: object) -> object:
    """Reads ``a,b,c``, or a list of names."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        return value
    return tuple(name for one in given for name in one.split(","))
