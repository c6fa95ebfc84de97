"""``embedkit train``: models of static vectors."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from embedkit.cli.arguments import Json, LogFormat
from embedkit.cli.logs import say, set_up_logs
from embedkit.cli.options import read_settings, with_options
from embedkit.config import CorpusConfig
from embedkit.errors import ConfigError
from embedkit.training.config import DistillConfig, Word2VecConfig

train = typer.Typer(
    name="train",
    help="Make a model of static vectors: trained on a corpus, or distilled from another model.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_ENDS = (
    "Exit codes: 0 done; 2 a bad setting, input or surroundings, which another try cannot help; "
    "4 stopped or failed, and the same command may succeed, from the beginning."
)
_OF_VERSIONS = {
    "query_column",
    "candidates_column",
    "id_column",
    "metadata_columns",
    "block_rows",
    "block_bytes",
    "chunk",
    "chunk_tokens",
    "chunk_overlap",
    "late_chunking",
    "base",
    "limit",
}
"""Settings of a corpus that decide nothing in a training, or do not go with one."""

_INPUTS = "Files, directories, globs and URLs."


def _with_settings(
    kind: type[BaseModel], *left_out: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field, those of a corpus under their own heading."""
    panels: dict[str, type[BaseModel]] = {"Corpus": CorpusConfig, "Training": kind}
    return lambda function: with_options(function, panels, {"inputs", *left_out, *_OF_VERSIONS})


@train.command(epilog=_ENDS)
@_with_settings(Word2VecConfig)
def word2vec(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help=_INPUTS)],
    *,
    settings: dict[str, Any],
    as_json: Json = False,
    log_format: LogFormat = "text",
) -> None:
    """Train word vectors on a corpus, by gensim."""
    from embedkit.training.word2vec import train_word2vec

    set_up_logs(log_format)
    trained = train_word2vec(read_settings(Word2VecConfig, {"inputs": inputs, **settings}))
    say(json.dumps(trained.to_dict()) if as_json else trained.to_text())


@train.command(epilog=_ENDS)
@_with_settings(DistillConfig, "model")
def static(
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT...", help=_INPUTS)] = None,
    *,
    model: Annotated[str, typer.Option("--from", help="Model directory, or a hub id.")],
    settings: dict[str, Any],
    as_json: Json = False,
    log_format: LogFormat = "text",
) -> None:
    """Distill a sentence model into static vectors, by model2vec.

    Of the inputs, if any, the most frequent words get vectors of their own.
    """
    from embedkit.training.distillation import distill_static

    set_up_logs(log_format)
    of_corpus = {
        name: settings.pop(name) for name in [*settings] if name in CorpusConfig.model_fields
    }
    corpus = None
    if inputs:
        corpus = read_settings(CorpusConfig, {"inputs": inputs, **of_corpus})
    elif of_corpus or "vocabulary_size" in settings:
        given = next(iter(of_corpus), "vocabulary_size")
        raise ConfigError(f"{given} says how a corpus is read, but there is no INPUT; name one")
    trained = distill_static(read_settings(DistillConfig, {"model": model, **settings}), corpus)
    say(json.dumps(trained.to_dict()) if as_json else trained.to_text())
