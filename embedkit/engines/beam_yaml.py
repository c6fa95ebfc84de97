"""Pipelines written in Beam YAML, run with embedkit's transforms among Beam's."""

import re
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import embedkit.transforms
from embedkit.errors import ConfigError
from embedkit.transforms.errors import one_line_errors

PROVIDER = Path(embedkit.transforms.__file__).with_name("beam_yaml_provider.yaml")
"""What a pipeline includes under ``providers`` to have embedkit's transforms."""

_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def run_yaml(file: str, arguments: list[str]) -> None:
    """Runs a pipeline to its end.

    Args:
        file: The pipeline. What it has in double braces is a variable.
        arguments: Its variables and Beam's options, as flags. Without a ``--runner``, it runs in
            this process.

    Raises:
        ConfigError: The file is missing, or a setting of a transform cannot be used.
        EmbedkitError: What stopped the pipeline.
    """
    if not Path(file).is_file():
        raise ConfigError(f"{file}: no such pipeline; check the path")
    try:
        # Beam's part for YAML wants what the rest does without.
        from apache_beam.yaml import main as beam_yaml
    except ImportError as error:
        raise ConfigError(
            f"Beam YAML cannot be imported ({error}); install docstring-parser, jsonschema and "
            "pandas, which are the extra yaml of embedkit-batch"
        ) from error
    variables = sorted(set(_VARIABLE.findall(Path(file).read_text())))
    flags = [f"--yaml_pipeline_file={file}"]
    if variables:
        flags.append(f"--jinja_variable_flags={','.join(variables)}")
    try:
        options, build, _ = beam_yaml.build_pipeline_components_from_argv([*flags, *arguments])
        # Named directly: DirectRunner would first look for another runner's binary online.
        chosen = options.view_as(StandardOptions).runner
        pipeline = beam.Pipeline(runner=chosen or FnApiRunner(), options=options)
        build(pipeline)
    except (ValueError, TypeError) as error:
        # Beam puts the transform and its line before what is wrong with it.
        raise ConfigError(f"{file}: {' '.join(str(error).split())}") from error
    with one_line_errors():
        pipeline.run().wait_until_finish()
