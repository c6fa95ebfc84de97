"""Pipelines written in Beam YAML, run with embedkit's transforms among Beam's."""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import jinja2
import jinja2.meta
import yaml
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import embedkit.transforms
from embedkit.engines.beam_flags import beam_option_names, check_beam_flags
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.transforms.errors import one_line_errors

PROVIDER = Path(embedkit.transforms.__file__).with_name("beam_yaml_provider.yaml")
"""What a pipeline includes under ``providers`` to have embedkit's transforms."""

_GIVEN_BY_BEAM = frozenset({"datetime"})


def run_yaml(file: str, arguments: list[str]) -> None:
    """Runs a pipeline to its end.

    Args:
        file: The pipeline, a template of Jinja's: what it asks for and does not set is a variable.
        arguments: Its variables and Beam's options, as flags. Without a ``--runner``, it runs in
            this process.

    Raises:
        ConfigError: The file is missing or no pipeline, a flag is unknown, a variable is missing,
            or a setting of a transform cannot be used.
        EmbedkitError: What stopped the pipeline.
    """
    if not Path(file).is_file():
        raise ConfigError(f"{file}: no such pipeline; check the path")
    try:
        # Beam's part for YAML wants what the rest does without.
        from apache_beam.yaml import main as beam_yaml
        from jsonschema import ValidationError
    except ImportError as error:
        raise ConfigError(
            f"Beam YAML cannot be imported ({error}); install docstring-parser, jsonschema and "
            "pandas, which are the extra yaml of embedkit-batch"
        ) from error
    try:
        variables = _variables(Path(file))
        flags = _checked(variables, arguments)
        options, build, _ = beam_yaml.build_pipeline_components_from_argv(
            [f"--yaml_pipeline_file={file}", *flags]
        )
        # Named directly: DirectRunner would first look for another runner's binary online.
        chosen = options.view_as(StandardOptions).runner
        pipeline = beam.Pipeline(runner=chosen or FnApiRunner(), options=options)
        build(pipeline)
    except jinja2.TemplateError as error:
        raise ConfigError(f"{file}: {_of_template(error)}") from error
    except AttributeError as error:
        if error.name != "get" or isinstance(error.obj, Mapping):
            raise
        held = "nothing" if error.obj is None else f"a {type(error.obj).__name__}"
        raise ConfigError(
            f"{file}: holds {held} where settings are expected, such as 'pipeline:' with lines "
            "below it"
        ) from error
    except ValidationError as error:
        raise ConfigError(f"{file}: {one_line(error, only_first=True)}") from error
    except (ValueError, TypeError, yaml.YAMLError) as error:
        # Beam puts the transform and its line before what is wrong with it.
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error
    with one_line_errors():
        pipeline.run().wait_until_finish()


def _variables(file: Path) -> frozenset[str]:
    """Returns what a pipeline, with all that it includes, asks for and does not set itself."""
    environment = jinja2.Environment()
    found: set[str] = set()
    files, seen = [file], set()
    while files:
        seen.add(one := files.pop())
        template = environment.parse(one.read_text(encoding="utf-8"))
        found |= jinja2.meta.find_undeclared_variables(template)
        named = jinja2.meta.find_referenced_templates(template)
        included = (file.parent / name for name in named if name is not None)
        # What is elsewhere, Beam finds or refuses.
        files += [other for other in included if other.is_file() and other not in seen]
    return frozenset(found - _GIVEN_BY_BEAM - environment.globals.keys())


def _checked(variables: frozenset[str], arguments: list[str]) -> list[str]:
    """Returns flags as Beam's part for YAML takes them, all of which are known."""
    own = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    beams = beam_option_names()
    of_pipeline = sorted(variables - beams)
    for name in (*of_pipeline, "json_schema_validation"):
        own.add_argument(f"--{name}")
    own.add_argument("--jinja_variables", type=_mapping)
    try:
        _, left = own.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from error
    known = [f"--{name}" for name in of_pipeline]
    check_beam_flags(left, known, "no variable of the pipeline and no option of Beam's")
    return [f"--jinja_variable_flags={','.join(of_pipeline)}", *arguments] if known else arguments


def _mapping(text: str) -> Any:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError('expected JSON, such as {"word": "rain"}')
    return found


def _of_template(error: jinja2.TemplateError) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"line {error.lineno}: {one_line(error.message or '')}"
    if isinstance(error, jinja2.TemplateNotFound):
        return f"includes {error.name}, which is not there; check the path"
    said = one_line(error)
    missing = re.fullmatch(r"'(\w+)' is undefined", said)
    if missing is None:
        return said
    name = missing[1]
    if name in beam_option_names():
        # Beam takes the flag of that name for its own.
        return f"{said}; give --jinja_variables='{{\"{name}\": ...}}'"
    return f"{said}; give --{name}=..."
