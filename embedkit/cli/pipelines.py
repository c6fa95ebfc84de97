"""``embedkit dataflow`` and ``beam-yaml``: pipelines that Beam runs, with flags of its own."""

import json
import logging

import typer

from embedkit.cli.arguments import ENDS
from embedkit.cli.logs import say, set_up_logs
from embedkit.errors import ConfigError

pipelines = typer.Typer(rich_markup_mode="rich")

# Of a command whose flags are read by what it calls.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@pipelines.command(
    "dataflow", epilog=ENDS, context_settings=_PASSED_ON, options_metavar="[FLAG...]"
)
def dataflow_command(context: typer.Context) -> None:
    """Send a job to Dataflow.

    Every setting of a job is a flag; all other flags are Beam's own. --write_metadata FILE writes
    the metadata of a Flex Template instead.
    """
    from embedkit.engines.dataflow_flags import send_to_dataflow

    set_up_logs("text")
    say(json.dumps(send_to_dataflow(context.args)))


@pipelines.command(
    "beam-yaml",
    epilog=ENDS,
    context_settings=_PASSED_ON,
    options_metavar="PIPELINE.yaml [--VARIABLE VALUE...] [FLAG...]",
)
def beam_yaml_command(context: typer.Context) -> None:
    """Run a pipeline written in Beam YAML.

    A variable is what the file has in double braces; all other flags are Beam's own. --provider
    says where the file is that a pipeline includes to have embedkit's transforms.
    """
    from embedkit.engines.beam_yaml import PROVIDER, run_yaml

    set_up_logs("text")
    if context.args == ["--provider"]:
        say(str(PROVIDER))
        return
    if not context.args:
        raise ConfigError("name a pipeline: embedkit beam-yaml PIPELINE.yaml")
    # What a pipeline logs is its output.
    logging.getLogger().setLevel(logging.INFO)
    run_yaml(context.args[0], context.args[1:])
