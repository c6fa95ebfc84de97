"""``embedkit rerank``: scores of pairs."""

from typing import Any

import typer

from embedkit.cli.arguments import Inputs, Json, LogFormat, Progress
from embedkit.cli.jobs import ENDS_OF_RUN, run_and_say
from embedkit.cli.logs import set_up_logs
from embedkit.cli.options import job_command_without, read_job
from embedkit.errors import ConfigError

rerank = typer.Typer(rich_markup_mode="rich")

_OF_VECTORS = (
    *("chunk", "chunk_tokens", "chunk_overlap", "late_chunking"),
    *("tokenizer", "allow_tokenizer_mismatch", "route", "onnx_file"),
    *("prompt", "prompt_name", "pooling", "normalize"),
    *("dimensions", "granularity", "word_pooling", "word_pattern", "words", "special_tokens"),
    *("layers", "vector_dtype", "store_tokens"),
)
"""Settings that mean nothing for scores; a job file that has one is refused or warned of."""


@rerank.command("rerank", epilog=ENDS_OF_RUN)
@job_command_without(*_OF_VECTORS)
def rerank_command(
    inputs: Inputs = None,
    *,
    settings: dict[str, Any],
    as_json: Json = False,
    progress: Progress = "auto",
    log_format: LogFormat = "text",
) -> None:
    """Score pairs of a query and a text by a cross-encoder, or resume where a run stopped.

    The query is in the column 'query', and the text in 'text', unless others are named.
    """
    set_up_logs(log_format)
    job = read_job(inputs or [], settings, query_column="query")
    if job.query_column is None:
        raise ConfigError("query_column: none, but scores are of pairs; name the query's column")
    run_and_say(job, as_json, progress)
