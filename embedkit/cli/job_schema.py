"""The JSON schema of a job file, by which editors complete and check one."""

from typing import Any

from pydantic import BaseModel

from embedkit.cli.options import EVALUATION
from embedkit.config import EvaluationConfig, JobConfig


def job_schema() -> dict[str, Any]:
    """Returns the JSON schema of a job file, which says no more than the file is held to.

    A flag may complete a job file, so no key is required, and a list of one may be that one.
    """
    properties = _properties(JobConfig)
    properties[EVALUATION] = {
        "type": ["object", "null"],
        "description": "What the version is held against when it is complete, as by embedkit "
        "evaluate; not a flag of run.",
        "properties": _properties(EvaluationConfig),
        "additionalProperties": False,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Job of embedkit",
        "description": "Settings of embedkit run; every key but evaluation is also a flag, which "
        "goes on top.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _properties(kind: type[BaseModel]) -> dict[str, Any]:
    schema = kind.model_json_schema()
    return {name: _property(one) for name, one in schema["properties"].items()}


def _property(schema: dict[str, Any]) -> dict[str, Any]:
    schema = {name: value for name, value in schema.items() if name != "title"}
    if schema.get("type") != "array":
        return schema
    of_list = {name: schema.pop(name) for name in ("type", "items", "minItems") if name in schema}
    return {**schema, "anyOf": [of_list, of_list["items"]]}
