"""``embedkit convert``: a file of word vectors made a model directory."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import say, set_up_logs
from embedkit.cli.options import read_settings
from embedkit.config import CorpusConfig
from embedkit.errors import InputError
from embedkit.errors.urls import public_url

convert = typer.Typer()
_ENDS = (
    "Exit codes: 0 done; 2 a bad setting or input, which another try cannot help; 4 stopped or "
    "failed, and the same command may succeed."
)


@convert.command("convert", epilog=_ENDS)
def convert_file(
    file: Annotated[
        str,
        typer.Argument(
            help="word2vec (binary or text), GloVe or fastText .vec, compressed or not; .npy; or a "
            "directory of word vectors, to count its words in a --corpus."
        ),
    ],
    *,
    output: Annotated[str, typer.Option(help="The model directory to write.")],
    words: Annotated[
        Path | None,
        typer.Option(help="The words of a .npy file: lines of text, .json, or .parquet."),
    ] = None,
    file_format: Annotated[
        Literal["auto", "word2vec", "word2vec-text", "glove", "npy"],
        typer.Option("--format", help="The file's format; told from what it holds unless given."),
    ] = "auto",
    lowercase: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(
            help="Whether texts are lower-cased before their words are looked up; auto does so "
            "where no word has an upper-case letter."
        ),
    ] = "auto",
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT",
            help="Files, directories, globs or URLs of texts to count the words in, for --pooling "
            "idf, sif and those that end in -pc. May be given several times.",
        ),
    ] = None,
    text_column: Annotated[
        str, typer.Option(help="Column of the corpus that holds the text.")
    ] = "text",
    as_json: Json = False,
) -> None:
    """Make a model directory of a file of word vectors, for run --model DIR."""
    from embedkit.training.convert import convert_vectors
    from embedkit.training.output import check_output

    set_up_logs("text")
    texts = None
    if corpus:
        settings = {"inputs": corpus, "text_column": text_column}
        texts = read_settings(CorpusConfig, settings)
    lower_case = {"yes": True, "no": False}.get(lowercase)
    if "://" in file:
        raise InputError(
            f"{public_url(file)}: word vectors are read from a local file; download it"
        )
    directory = check_output(output)
    converted = convert_vectors(Path(file), directory, words, file_format, lower_case, texts)
    say(json.dumps(converted.to_dict()) if as_json else converted.to_text())
