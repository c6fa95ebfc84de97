"""``embedkit run``, ``plan``, ``init`` and ``schema``: jobs, and the files that describe them."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit.cli.arguments import (
    ENDS,
    Documents,
    Inputs,
    Json,
    LogFormat,
    PricePerHour,
    Progress,
    TokensPerSecond,
)
from embedkit.cli.jobs import ENDS_OF_RUN, run_and_say
from embedkit.cli.logs import say, set_up_logs
from embedkit.cli.options import job_command, read_evaluation, read_job

_LOG = logging.getLogger("embedkit")

run = typer.Typer(rich_markup_mode="rich")


@run.command("run", epilog=ENDS_OF_RUN)
@job_command
def run_command(
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


@run.command("plan", epilog=ENDS)
@job_command
def plan_command(
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


@run.command("init", epilog=ENDS)
def init_command(
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


@run.command("schema", epilog=ENDS)
def schema_command() -> None:
    """Print the JSON schema of a job file, for editors."""
    from embedkit.cli.job_schema import job_schema

    say(json.dumps(job_schema(), indent=2))
