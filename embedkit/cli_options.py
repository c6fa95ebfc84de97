"""Command-line options made from the configuration's fields, so that each is written once."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from embedkit.config import CorpusConfig, EngineConfig, JobConfig, ModelConfig, OutputConfig
from embedkit.errors import ConfigError

_PANELS: dict[str, type[BaseModel]] = {
    "Corpus": CorpusConfig,
    "Model": ModelConfig,
    "Output": OutputConfig,
    "Engine": EngineConfig,
}


def job_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for every field of ``JobConfig``.

    The function's parameter ``settings`` receives the fields that were set on the command line,
    by name; INPUT arguments among them. Its other parameters stay as they are.
    """
    own = inspect.signature(function)
    kept = [param for name, param in own.parameters.items() if name != "settings"]
    fields = [
        _parameter(name, field, panel)
        for panel, config in _PANELS.items()
        for name, field in config.model_fields.items()
        if name != "inputs"
    ]

    def command(**values: Any) -> None:
        settings = {
            field.name: value
            for field in fields
            if (value := values.pop(field.name)) is not None and value != []
        }
        function(settings=settings, **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [param.replace(kind=keyword) for param in [*kept, *fields]]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    return command


def _parameter(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    flag = "--" + name.replace("_", "-")
    kind, is_list, is_flag = _option_type(field)
    sentence = field.description or ""
    default = field.get_default()
    if not field.is_required() and default not in (None, ()) and not is_flag:
        sentence = f"{sentence} [default: {default}]"
    option = typer.Option(
        f"{flag}/--no-{name.replace('_', '-')}" if is_flag else flag,
        help=sentence,
        rich_help_panel=panel,
        show_default=False,
        metavar=None,
    )
    annotation = Annotated[(list[kind] if is_list else kind) | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _option_type(field: FieldInfo) -> tuple[Any, bool, bool]:
    """Returns the option's element type, whether it may be repeated, and whether it is on/off."""
    kinds = [kind for kind in (get_args(field.annotation) or [field.annotation]) if kind]
    if get_origin(field.annotation) is tuple:
        return str, True, False
    if get_origin(field.annotation) is Literal:
        return field.annotation, False, False
    bare = [kind for kind in kinds if kind is not type(None) and kind is not ...]
    first = bare[0]
    while get_origin(first) is Annotated:
        first = get_args(first)[0]
    return first, False, first is bool


def read_job(inputs: list[str], settings: dict[str, Any]) -> JobConfig:
    """Reads the job: a YAML file or input patterns, with flags on top.

    Args:
        inputs: One ``.yaml`` file, or the inputs themselves.
        settings: What flags say, by field name.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing or out of range.
    """
    job: dict[str, Any] = {}
    name = "the command line"
    if len(inputs) == 1 and inputs[0].endswith((".yaml", ".yml")):
        name = inputs[0]
        job = _read_yaml(Path(name))
    elif inputs:
        job = {"inputs": inputs}
    try:
        return JobConfig.model_validate({**job, **settings})
    except ValidationError as error:
        raise ConfigError(_sentence(name, error)) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such job file; check the path") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {what}") from error
    if not isinstance(job, dict):
        raise ConfigError(f"{path}: holds {type(job).__name__}, expected 'setting: value' lines")
    return job


def _sentence(name: str, error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(place) for place in problem["loc"]) or "job"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            flag = "INPUT" if field == "inputs" else f"--{field.replace('_', '-')}"
            problems.append(f"{field} is missing, give {flag}")
        elif problem["type"] == "extra_forbidden":
            problems.append(f"{field} is no setting of a job")
        else:
            problems.append(f"{field} = {problem['input']!r}: {message}")
    return f"{name}: " + "; ".join(problems)
