"""Flags of a command line, or parameters of a Flex Template, to a job on Dataflow.

Every setting of a job is a flag, with hyphens or underscores; lists are joined by commas. All other
flags are Beam's own.
"""

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from embedkit.config import CorpusConfig, JobConfig, ModelConfig, OutputConfig
from embedkit.engines.beam_flags import check_beam_flags
from embedkit.engines.dataflow import DataflowConfig, start_on_dataflow
from embedkit.errors import ConfigError
from embedkit.errors.settings import sentence, what_is_wrong

_Config = TypeVar("_Config", bound=BaseModel)

_OF_ENGINES = (
    "encoders_per_gpu", "calls_in_flight", "call_tokens", "encoder_timeout", "canaries",
)  # fmt: skip
_URL = "[a-z][a-z0-9]+://[^,]+"
_OF_PLACES = {
    "inputs": f"^{_URL}(,{_URL})*$",
    "output": f"^{_URL}$",
    "model": "^/.+$",
    "tokenizer": "^/.+$",
}


def settings() -> dict[str, FieldInfo]:
    """Returns what can be set: all of a job that has a meaning on Dataflow, and the workers."""
    fields: dict[str, FieldInfo] = {}
    for config in (CorpusConfig, ModelConfig, OutputConfig, DataflowConfig):
        fields |= config.model_fields
    fields |= {name: JobConfig.model_fields[name] for name in _OF_ENGINES}
    return dict(sorted(fields.items(), key=lambda item: not item[1].is_required()))


def parse(arguments: Sequence[str]) -> tuple[JobConfig, DataflowConfig, PipelineOptions]:
    """Reads a command line.

    Raises:
        ConfigError: A setting is missing, unknown or out of range.
    """
    parser = argparse.ArgumentParser("embedkit dataflow", allow_abbrev=False, exit_on_error=False)
    for name, field in settings().items():
        kind: dict[str, Any] = {}
        if _is_bool(name):
            # A flag may stand alone where a template's parameter has a value.
            kind = {"nargs": "?", "const": "true"}
        elif _is_list(_schemas()[name]):
            kind = {"action": "append"}
        parser.add_argument(
            *dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")),
            help=(field.description or "").replace("%", "%%"),
            **kind,
        )
    try:
        known, rest = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from error
    flags = (f"--{name.replace('_', '-')}" for name in settings())
    check_beam_flags(rest, flags, "no setting of a job on Dataflow and no option of Beam's")
    found = {name: _given(name, value) for name, value in vars(known).items() if value}
    given: dict[str, Any] = {name: value for name, value in found.items() if value}
    of_workers = {name: given.pop(name) for name in DataflowConfig.model_fields if name in given}
    job = _validated(JobConfig, given)
    workers = _validated(DataflowConfig, of_workers)
    # The last one counts, so a flag goes on top of these.
    options = PipelineOptions(["--runner=DataflowRunner", "--pickle_library=cloudpickle", *rest])
    return job, workers, options


def _given(name: str, value: str | list[str]) -> str | list[str]:
    """Returns what a flag says: of a list, what all of its flags say together."""
    if isinstance(value, str):
        return value
    # A template passes a parameter that was left out as an empty one.
    items = [item.strip() for one in value if one.strip() for item in one.split(",")]
    if "" in items:
        raise ConfigError(f"--{name}: {','.join(value)} has an empty item; leave a comma out")
    return items


def _validated(config: type[_Config], values: dict[str, Any]) -> _Config:
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, _problem)) from error


def _problem(one: Mapping[str, Any]) -> str:
    return f"--{one['loc'][0] if one['loc'] else 'job'}: {what_is_wrong(one)}"


def template_metadata() -> dict[str, Any]:
    """Returns the metadata of the Flex Template: its parameters, and what each of them may be."""
    return {
        "name": "Embed a text corpus",
        "description": "Turns a text corpus into an embedding dataset: one version below the "
        "output, complete when the job has succeeded. The same parameters resume a job that did "
        "not.",
        "parameters": [_parameter(name, field) for name, field in settings().items()],
    }


def _parameter(name: str, field: FieldInfo) -> dict[str, Any]:
    schema = _schemas()[name]
    parameter: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": field.description,
        "isOptional": not field.is_required(),
        "paramType": "TEXT",
    }
    if _is_list(schema):
        parameter["helpText"] += " Several are joined by commas."
    regex = _OF_PLACES.get(name) or _regex(schema)
    if regex:
        # An optional parameter may be passed empty.
        parameter["regexes"] = [regex if field.is_required() else f"^$|{regex}"]
    return parameter


@functools.cache
def _schemas() -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of every setting, without the null of an optional one."""
    found: dict[str, dict[str, Any]] = {}
    for config in (JobConfig, DataflowConfig):
        for name, schema in config.model_json_schema()["properties"].items():
            variants = schema.get("anyOf", [schema])
            found[name] = next(one for one in variants if one.get("type") != "null")
    return found


def _is_bool(name: str) -> bool:
    return _schemas()[name].get("type") == "boolean"


def _is_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array"


def _regex(schema: dict[str, Any]) -> str | None:
    """Returns what a value of a schema looks like, or None where anything does."""
    if "enum" in schema:
        return f"^({'|'.join(schema['enum'])})$"
    if "pattern" in schema:
        return str(schema["pattern"])
    if schema.get("type") == "boolean":
        return "^(true|false)$"
    if schema.get("type") == "number":
        return r"^[0-9]+(\.[0-9]+)?$"
    if schema.get("type") != "integer":
        return None
    least = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    if "maximum" in schema:
        return f"^[{least}-{schema['maximum']}]$"
    return "^[0-9]+$" if least == 0 else "^[1-9][0-9]*$"


def send_to_dataflow(arguments: Sequence[str]) -> dict[str, Any]:
    """Sends a job to Dataflow, or writes the template's metadata where ``--write_metadata`` asks.

    Args:
        arguments: The command line.

    Returns:
        The Dataflow job's id, None where the version is complete already, with the version's name
        and URL; or the file that was written.

    Raises:
        ConfigError: A setting is missing, unknown or out of range, or would fail on the workers.
        InputError: An input cannot be used.
        NotPublishedError: The version is complete already, but is not to be published.
    """
    first, has_value, value = arguments[0].partition("=") if arguments else ("", "", "")
    if first in ("--write_metadata", "--write-metadata"):
        return _write_metadata([*([value] if has_value else []), *arguments[1:]])
    settled, result = start_on_dataflow(*parse(arguments))
    job = None if result is None else getattr(result, "job_id", lambda: None)()
    return {"job": job, "version": settled.version.name, "url": settled.version.url}


def _write_metadata(arguments: Sequence[str]) -> dict[str, Any]:
    if len(arguments) != 1:
        raise ConfigError("--write_metadata: expected one file to write; name it")
    try:
        Path(arguments[0]).write_text(json.dumps(template_metadata(), indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{arguments[0]}: cannot be written ({error}); name another") from error
    return {"written": arguments[0]}
