"""Command-line options made from the configuration's fields, so that each is written once."""

import difflib
import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic.fields import FieldInfo

from embedkit.config import (
    CorpusConfig,
    EngineConfig,
    EvaluationConfig,
    JobConfig,
    ModelConfig,
    OutputConfig,
    TokenizerConfig,
)
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.errors.settings import sentence, what_is_wrong

_Settings = TypeVar("_Settings", bound=BaseModel)

_PANELS: dict[str, type[BaseModel]] = {
    "Corpus": CorpusConfig,
    "Tokenizer": TokenizerConfig,
    "Model": ModelConfig,
    "Output": OutputConfig,
    "Engine": EngineConfig,
}
EVALUATION = "evaluation"
"""The section of a job file that says what its version is held against."""

_METAVARS = {bool: "", int: "N", float: "X"}
_SHOWN = 100
_MOST_SAID = 1000
_MOST_PROBLEMS = 20
_MOST_JOB_BYTES = 1 << 20
_LONGEST_WITH_NO = 14
_BESIDE_LONG_FLAGS = frozenset({"late_chunking"})


def job_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for every field of ``JobConfig``.

    The function's parameter ``settings`` receives the fields that were set on the command line,
    by name; INPUT arguments among them. Its other parameters stay as they are.
    """
    return with_options(function, _PANELS, {"inputs"})


def job_command_without(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns ``job_command`` without the options of some fields, which mean nothing to it."""
    return lambda function: with_options(function, _PANELS, {"inputs", *names})


def with_options(
    function: Callable[..., None], panels: Mapping[str, type[BaseModel]], left_out: Collection[str]
) -> Callable[..., None]:
    """Gives a command an option for every field of some settings, as ``job_command`` does.

    Args:
        function: The command.
        panels: The settings, by the heading that the help shows them under.
        left_out: Names of fields that get none. A field of two panels is one of the first.
    """
    own = inspect.signature(function)
    kept = [param for name, param in own.parameters.items() if name != "settings"]
    homes = {
        name: panel
        for panel, config in reversed(list(panels.items()))
        for name in config.model_fields
        if name not in left_out
    }
    fields = [
        _parameter(name, field, panel)
        for panel, config in panels.items()
        for name, field in config.model_fields.items()
        if homes.get(name) == panel
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
    kind = _option_type(field)
    # The help cuts off a longer name, so a job file alone can say no to such a setting.
    short = len(name) <= _LONGEST_WITH_NO and name not in _BESIDE_LONG_FLAGS
    has_no = kind is bool and short
    option = typer.Option(
        f"{flag}/--no-{name.replace('_', '-')}" if has_no else flag,
        help=_help(field, kind),
        rich_help_panel=panel,
        show_default=False,
        metavar=_METAVARS.get(kind, "TEXT"),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(field: FieldInfo, kind: Any) -> str:
    """Returns the field's sentence with its choices and default, for rich's markup."""
    sentence = field.description or ""
    if kind == list[str]:
        sentence += " May be given several times."
    default = field.get_default()
    notes = []
    if get_origin(kind) is Literal:
        notes.append("one of: " + ", ".join(get_args(kind)))
    if not field.is_required() and default not in (None, ()) and kind is not bool:
        notes.append(f"default: {_shown(default)}")
    # A bare bracket would be taken for markup and vanish.
    return sentence + (f" \\[{'; '.join(notes)}]" if notes else "")


def _shown(default: Any) -> str:
    if isinstance(default, int):
        return f"{default:,}"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _option_type(field: FieldInfo) -> Any:
    """Returns what the command line takes for a field; the field itself checks the value."""
    if get_origin(field.annotation) is tuple:
        return list[str]
    if get_origin(field.annotation) is Literal:
        return field.annotation
    if any(isinstance(rule, BeforeValidator) for rule in field.metadata):
        # The field reads its own notation, such as 1..8.
        return str
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else str if kinds else field.annotation
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def read_job(inputs: list[str], settings: dict[str, Any], **defaults: Any) -> JobConfig:
    """Reads the job: a YAML file or input patterns, with flags on top.

    Args:
        inputs: A ``.yaml`` file, the inputs themselves, or a file and inputs that take the place
            of the file's own.
        settings: What flags say, by field name.
        defaults: Settings that hold where neither the file nor a flag has them.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing or out of range.
    """
    job: dict[str, Any] = {}
    name = "the command line"
    if inputs and inputs[0].endswith((".yaml", ".yml")):
        name, *inputs = inputs
        job = _read_yaml(Path(name))
        _evaluation_in(job, name)
        job.pop(EVALUATION, None)
    if inputs:
        job["inputs"] = inputs
    return read_settings(JobConfig, {**defaults, **job, **settings}, name)


def read_evaluation(inputs: list[str]) -> EvaluationConfig | None:
    """Reads what the version of a job is to be held against: a section of the job file.

    Args:
        inputs: As those of ``read_job``.

    Returns:
        None where there is no job file, or none in it.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown or out of range.
    """
    if not inputs or not inputs[0].endswith((".yaml", ".yml")):
        return None
    return _evaluation_in(_read_yaml(Path(inputs[0])), inputs[0])


def _evaluation_in(job: Mapping[str, Any], name: str) -> EvaluationConfig | None:
    section = job.get(EVALUATION)
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ConfigError(
            f"{name}: {EVALUATION} = {str(section)[:_SHOWN]!r}: expected lines below it, such as "
            "'retrieval: DIRECTORY'"
        )
    settings = {str(key): one for key, one in section.items()}
    return read_settings(EvaluationConfig, settings, f"{name}: {EVALUATION}")


def read_settings(
    kind: type[_Settings], settings: Mapping[str, Any], name: str = "the command line"
) -> _Settings:
    """Reads settings of some kind.

    Args:
        kind: Their class.
        settings: Their values, by field name.
        name: Where they come from.

    Raises:
        ConfigError: A setting is unknown, missing or out of range.
    """
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problem = partial(_problem, kind)
        raise ConfigError(f"{name}: {sentence(error, problem, _MOST_PROBLEMS)}") from error


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML takes: of two values for a key, the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key is no plain word", problem_mark=key.start_mark
                )
            name = self.construct_object(key, deep=True)
            if name in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"{str(name)[:_SHOWN]} is said twice", problem_mark=key.start_mark
                )
            keys.add(name)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        events: Any = self
        if events.check_event(yaml.AliasEvent):
            # A few of them, each of the one before, stand for more than fits into any memory.
            raise yaml.constructor.ConstructorError(
                problem="aliases (*name) are not read; write the value out",
                problem_mark=events.peek_event().start_mark,
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: cannot be read as YAML: no regular file")
    try:
        if path.stat().st_size > _MOST_JOB_BYTES:
            raise ConfigError(f"{path}: more than {_MOST_JOB_BYTES:,} bytes; give a job file")
        job = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such job file; check the path") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: cannot be read as YAML: nested too deep") from error
    # Bytes that are no UTF-8, and what only looks like a date or a number, are ValueErrors.
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {one_line(error)}") from error
    if not isinstance(job, dict):
        held = "nothing" if job is None else f"a {type(job).__name__}"
        raise ConfigError(f"{path}: holds {held}, expected lines such as 'model: DIRECTORY'")
    return {str(key): value for key, value in job.items()}


def _problem(kind: type[BaseModel], problem: Any) -> str:
    message = what_is_wrong(problem)
    if not problem["loc"]:
        return message
    field = str(problem["loc"][0])[:_SHOWN]
    if problem["type"] == "missing":
        flag = "INPUT" if field == "inputs" else f"--{field.replace('_', '-')}"
        return f"{field} is missing, give {flag}"
    if problem["type"] == "extra_forbidden":
        like = difflib.get_close_matches(field, kind.model_fields, n=1)
        of = "an evaluation" if kind is EvaluationConfig else "a job"
        return f"{field} is no setting of {of}" + (f", did you mean {like[0]}?" if like else "")
    value = repr(problem["input"])
    shown = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
    return f"{field} = {shown}: {message[:1].lower()}{message[1:]}"
