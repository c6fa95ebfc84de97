"""Writes the manual's page of settings, from the schema of a job file.

Run as ``python -m pipelines.settings_page docs/settings.md``, as ``make docs`` does.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from embedkit.cli.job_schema import job_schema
from embedkit.config import (
    CorpusConfig,
    EngineConfig,
    EvaluationConfig,
    JobConfig,
    ModelConfig,
    OutputConfig,
    RecordConfig,
    TokenizerConfig,
)

_HEAD = """\
# Settings

Every setting of a [job file](job-files.md). Each is also a flag of `embedkit run`, with hyphens in
the place of underscores: `text_column` is `--text-column`. In Python it is a field of `JobConfig`.
This page is made from the settings' own descriptions, which `embedkit run --help` shows too.
"""
_GROUPS: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "Inputs": (
        "Which records are read; see [inputs](inputs.md).",
        (CorpusConfig,),
    ),
    "Records": (
        "How records become rows, wherever they come from; see [inputs](inputs.md) and "
        "[kinds of vectors](vectors.md).",
        (RecordConfig,),
    ),
    "Model": (
        "Which vectors a text gets; see [models](models.md) and [kinds of vectors](vectors.md).",
        (TokenizerConfig, ModelConfig),
    ),
    "Output": (
        "What is written and where, and what a version must be to be published; see "
        "[from one night to the next](nights.md) and [gates](gates.md).",
        (OutputConfig,),
    ),
    "Engine": (
        "What runs the work, and how it is spread; see [sizing](sizing.md) and "
        "[Ray clusters](ray.md).",
        (EngineConfig,),
    ),
}
_EVALUATION = """\
## Evaluation

Keys below `evaluation:` of a job file, and flags of `embedkit evaluate`; no flags of `run`. See
[evaluation](evaluation.md).
"""


def settings_page() -> str:
    """Returns the page, in Markdown."""
    properties = job_schema()["properties"]
    evaluation = properties.pop("evaluation")["properties"]
    lines = [_HEAD]
    for heading, (sentence, kinds) in _GROUPS.items():
        lines += [f"## {heading}\n", f"{sentence}\n", *_table(properties, _own(kinds)), ""]
    lines += [_EVALUATION, *_table(evaluation, tuple(EvaluationConfig.model_fields))]
    return "\n".join(lines) + "\n"


def _own(kinds: tuple[type, ...]) -> tuple[str, ...]:
    """Returns the settings that the classes themselves name, not those that they inherit."""
    return tuple(
        name for kind in kinds for name in kind.__annotations__ if not name.startswith("_")
    )


def _table(properties: Mapping[str, Any], names: Collection[str]) -> Iterator[str]:
    yield "| setting | values | default | |"
    yield "|---|---|---|---|"
    for name in names:
        one = properties[name]
        cells = (f"`{name}`", _values(one), _default(name, one), one["description"])
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _values(schema: Mapping[str, Any]) -> str:
    """Says in words what a value may be."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        kinds = [_values(one) for one in schema["anyOf"] if one != {"type": "null"}]
        said = " or ".join(dict.fromkeys(kinds))
        return said.replace("a list of texts or text", "text, or a list of texts")
    kind = schema["type"]
    if kind == "array":
        return "a list of texts"
    if kind in ("integer", "number"):
        return _number(schema)
    return {"boolean": "`true`, `false`", "string": "text"}[kind]


def _number(schema: Mapping[str, Any]) -> str:
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
        )
        if key in schema
    ]
    return ", ".join([kind, *bounds])


def _default(name: str, schema: Mapping[str, Any]) -> str:
    field = JobConfig.model_fields.get(name)
    if field is not None and field.is_required():
        return "required"
    value = schema.get("default")
    if value is None or value == []:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(settings_page(), encoding="utf-8")
