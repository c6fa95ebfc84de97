"""The command line: parse, call, print."""

import json
import logging
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit import __version__
from embedkit.cli.arguments import (
    ENDS,
    Documents,
    Inputs,
    Json,
    LogFormat,
    PricePerHour,
    Progress,
    Root,
    TokensPerSecond,
)
from embedkit.cli.compare import compare
from embedkit.cli.convert import convert
from embedkit.cli.duplicates import duplicates
from embedkit.cli.evaluate import evaluate
from embedkit.cli.exits import run_to_exit
from embedkit.cli.explode import explode
from embedkit.cli.export import export
from embedkit.cli.jobs import ENDS_OF_RUN, run_and_say
from embedkit.cli.logs import hits_text, say, set_up_logs, table
from embedkit.cli.options import job_command, read_evaluation, read_job
from embedkit.cli.prune import prune
from embedkit.cli.publish import publish
from embedkit.cli.report import report
from embedkit.cli.rerank import rerank
from embedkit.cli.status import status
from embedkit.cli.train import train
from embedkit.cli.versions import versions
from embedkit.cli.words import words
from embedkit.errors import ConfigError

_LOG = logging.getLogger("embedkit")

app = typer.Typer(
    name="embedkit",
    help="Turns a text corpus into an embedding dataset.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_ENDS_OF_VALIDATE = (
    "Exit codes: 0 all as its manifest says; 2 no such version; 4 something is not as it should "
    "be, or the check was stopped."
)
app.add_typer(train)
app.add_typer(words)
app.add_typer(explode)
app.add_typer(duplicates)
app.add_typer(export)
app.add_typer(convert)
app.add_typer(rerank)
app.add_typer(evaluate)
app.add_typer(versions)
app.add_typer(compare)
app.add_typer(status)
app.add_typer(prune)
app.add_typer(publish)
app.add_typer(report)
# Base of what is wrong with a command line; typer has no public name for it in all its versions.
_UsageError: Any = typer.BadParameter.__base__
_SUGGESTED = re.compile(r"\. Did you mean (.+)\?$")

# Of a command whose flags are read by what it calls.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _say_version(asked: bool) -> None:
    if asked:
        say(f"embedkit {__version__}")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_say_version,
            is_eager=True,
            help="Say embedkit's version.",
        ),
    ] = False,
) -> None:
    pass


@app.command(epilog=ENDS_OF_RUN)
@job_command
def run(
    inputs: Inputs = None,
    *,
    settings: dict[str, Any],
    as_json: Json = False,
    progress: Progress = "auto",
    log_format: LogFormat = "text",
) -> None:
    """Embed a corpus, or resume where an earlier run of the same job stopped."""
    set_up_logs(log_format)
    job = read_job(inputs or [], settings)
    run_and_say(job, as_json, progress, read_evaluation(inputs or []))


@app.command(epilog=ENDS)
@job_command
def plan(
    inputs: Inputs = None,
    *,
    settings: dict[str, Any],
    documents: Documents = None,
    tokens_per_second: TokensPerSecond = None,
    price_per_hour: PricePerHour = None,
    as_json: Json = False,
) -> None:
    """Say what a run would read and how long it may take; run nothing.

    With --documents, --tokens-per-second or --price-per-hour it also says how many hours a whole
    run takes on --encoders, what it costs, stores and asks of a store, and what holds it up first.
    """
    from embedkit.engines.estimate import plan_job
    from embedkit.engines.sizing import SizingOptions

    set_up_logs("text")
    if "max_reject_share" in settings:
        _LOG.warning("--max-reject-share has no effect: a plan rejects nothing")
    if "fail_on" in settings:
        _LOG.warning("--fail-on has no effect: a plan has no figures")
    asked = SizingOptions(documents, tokens_per_second, price_per_hour)
    job = read_job(inputs or [], settings, output=".")
    estimate = plan_job(job, sizing=asked if asked.given else None)
    say(json.dumps(estimate.to_dict()) if as_json else estimate.to_text())


@app.command(epilog=ENDS)
def info(root: Root, *, as_json: Json = False) -> None:
    """Describe a version, or those of a root that has not published any yet."""
    from embedkit.dataset.describe import describe
    from embedkit.dataset.version import find_versions

    set_up_logs("text")
    described = list(map(describe, find_versions(root)))
    if as_json:
        say(json.dumps(described[0] if len(described) == 1 else {"versions": described}))
    else:
        say("\n\n".join(map(table, described)))


@app.command(epilog=ENDS)
def search(
    root: Root,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    model: Annotated[
        str | None,
        typer.Option(help="The dataset's model, where it is no longer where the run found it."),
    ] = None,
    prompt_name: Annotated[
        str | None,
        typer.Option(help="Name of the model's prompt for the query; 'query' where it has one."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text put before the query, such as 'query: '.")
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(help="A cross-encoder that puts the nearest rows in order by their texts."),
    ] = None,
    rerank_candidates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows that it scores; 50, or as many as are wanted, unless given."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="An index that export wrote; the one in the version's own folder, if there is "
            "one, unless given.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", metavar="", help="Compare all rows, and use no index.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to a text; exactly, where there is no index."""
    from embedkit.search.query import search_text

    set_up_logs("text")
    hits = search_text(
        root,
        text,
        k,
        model,
        prompt_name,
        prompt,
        rerank,
        rerank_candidates=rerank_candidates,
        index=index,
        exact=exact,
    )
    say(json.dumps([hit.to_dict() for hit in hits]) if as_json else hits_text(hits))


@app.command(epilog=_ENDS_OF_VALIDATE)
def validate(root: Root, *, as_json: Json = False) -> None:
    """Read a version back and check everything that its manifest says."""
    from embedkit.dataset.validate import validate as validate_version
    from embedkit.dataset.version import find_version

    set_up_logs("text")
    report = validate_version(find_version(root))
    say(json.dumps(report.to_dict()) if as_json else report.to_text())
    if report.problems:
        raise typer.Exit(4)


@app.command(epilog=ENDS)
def init(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, directories, globs and URLs.")
    ],
    *,
    model: Annotated[str, typer.Option(help="Model directory, or a hub id.")],
    output: Annotated[str, typer.Option(help="Where the job is to write.")] = "embeddings",
    job: Annotated[str, typer.Option(help="The job file to write.")] = "job.yaml",
) -> None:
    """Write a commented job file that fits an input and a model."""
    from embedkit.cli.job_file import write_job_file

    set_up_logs("text")
    write_job_file(Path(job), inputs, model, output)
    say(f"wrote {job}; look through it, then: embedkit plan {job}")


@app.command(epilog=ENDS, context_settings=_PASSED_ON, options_metavar="[FLAG...]")
def dataflow(context: typer.Context) -> None:
    """Send a job to Dataflow.

    Every setting of a job is a flag; all other flags are Beam's own. --write_metadata FILE writes
    the metadata of a Flex Template instead.
    """
    from embedkit.engines.dataflow_flags import send_to_dataflow

    set_up_logs("text")
    say(json.dumps(send_to_dataflow(context.args)))


@app.command(
    "beam-yaml",
    epilog=ENDS,
    context_settings=_PASSED_ON,
    options_metavar="PIPELINE.yaml [--VARIABLE VALUE...] [FLAG...]",
)
def beam_yaml(context: typer.Context) -> None:
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


@app.command(epilog=ENDS)
def schema() -> None:
    """Print the JSON schema of a job file, for editors."""
    from embedkit.cli.job_schema import job_schema

    say(json.dumps(job_schema(), indent=2))


def command_line() -> int | None:
    """Runs the command that the arguments name; returns an exit code, or None for 0.

    Raises:
        ConfigError: The arguments are none of a command's.
    """
    try:
        code: int | None = app(prog_name="embedkit", standalone_mode=False)
    except _UsageError as error:
        # typer puts the checker's own words before what it says itself.
        message = error.format_message().rstrip(".").replace(": Value error, ", ": ")
        if not message:
            # A bare "embedkit" has been answered with the help.
            return ConfigError.exit_code
        message = _SUGGESTED.sub(r" (did you mean \1?)", message)
        command = error.ctx.command_path if error.ctx else "embedkit"
        raise ConfigError(f"{message}; see '{command} --help'") from error
    return code


def main() -> None:
    """Runs the command line; the process's exit code says what a scheduler should do."""
    run_to_exit(command_line)
