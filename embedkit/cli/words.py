"""``embedkit words``: what vectors of words say."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import say, set_up_logs
from embedkit.errors import ConfigError

if TYPE_CHECKING:
    from embedkit.search.words import SimilarWord

words = typer.Typer(
    name="words",
    help="Look at words: similar ones, analogies, the odd one out, a picture.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_ENDS = (
    "Exit codes: 0 done; 2 a bad setting or input, or a word without a vector; 4 stopped or "
    "failed, and the same command may succeed."
)
_PICTURES = (".html", ".png", ".svg")
_SIGNS = {"+": 1, "-": -1, "\N{MINUS SIGN}": -1}

Place = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="A directory of static vectors, as embedkit convert and train write it."
    ),
]
K = Annotated[int, typer.Option("-k", min=1, help="Number of words.")]


@words.command(epilog=_ENDS)
def similar(
    place: Place,
    word: Annotated[str, typer.Argument(help="The word.")],
    *,
    k: K = 10,
    as_json: Json = False,
) -> None:
    """Find the words most similar to a word."""
    from embedkit.search.word_sources import open_words
    from embedkit.search.words import similar_words

    set_up_logs("text")
    _say(similar_words(open_words(place), word, k), as_json)


@words.command(epilog=_ENDS)
def analogy(
    place: Place,
    terms: Annotated[
        list[str],
        typer.Argument(metavar="WORD - WORD + WORD...", help="Such as king - man + woman."),
    ],
    *,
    k: K = 10,
    as_json: Json = False,
) -> None:
    """Find the words most similar to a sum of words."""
    from embedkit.search.word_sources import open_words
    from embedkit.search.words import combined_words

    set_up_logs("text")
    positive, negative = signed_words(terms)
    _say(combined_words(open_words(place), positive, negative, k), as_json)


@words.command("doesnt-match", epilog=_ENDS)
def doesnt_match(
    place: Place,
    candidates: Annotated[list[str], typer.Argument(metavar="WORD...", help="Two words or more.")],
    *,
    as_json: Json = False,
) -> None:
    """Say which of some words does not match the others: the one furthest from their mean."""
    from embedkit.search.word_sources import open_words
    from embedkit.search.words import ranked_by_centrality

    set_up_logs("text")
    ranked = ranked_by_centrality(open_words(place), candidates)
    if as_json:
        found = [one.to_dict() for one in reversed(ranked)]
        say(json.dumps({"word": found[0]["word"], "words": found}))
    else:
        say(f"{ranked[-1].word} does not match; similarity to the mean of all:")
        _say(ranked, as_json)


@words.command(epilog=_ENDS)
def project(
    place: Place,
    chosen: Annotated[list[str], typer.Argument(metavar="WORD...", help="Two words or more.")],
    *,
    output: Annotated[
        str, typer.Option(help="The file: an .html page, or a .png or .svg picture.")
    ] = "words.html",
) -> None:
    """Draw words on the plane in whose directions their vectors differ most (PCA)."""
    from embedkit.search.projection import picture_of, project_words
    from embedkit.search.word_sources import open_words

    set_up_logs("text")
    file = output_file(output)
    found = project_words(open_words(place), chosen)
    write_file(file, picture_of(found, place, file.suffix.lower()))
    say(f"wrote {file}")


@words.command(epilog=_ENDS)
def senses(
    root: Annotated[
        str,
        typer.Argument(help="A dataset's root, or ROOT/VERSION, embedded with --granularity word."),
    ],
    word: Annotated[str, typer.Argument(help="The word.")],
    *,
    output: Annotated[
        str | None, typer.Option(help="The page; senses.html unless given or with --json.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--senses", min=1, max=6, help="How many senses there are, if known."),
    ] = None,
    static: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Static vectors, to show the word's neighbours there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell the senses of a word apart by the vectors of its occurrences."""
    from embedkit.search.senses import page_of, word_senses
    from embedkit.search.word_sources import open_words
    from embedkit.search.words import similar_words

    set_up_logs("text")
    named = output or ("" if as_json else "senses.html")
    file = output_file(named, (".html",)) if named else None
    beside = similar_words(open_words(static), word, 10) if static else None
    found = word_senses(root, word, count)
    if file is not None:
        write_file(file, page_of(found, root, static, beside).encode())
    if as_json:
        said = {"static": [one.to_dict() for one in beside]} if beside is not None else {}
        say(json.dumps(found.to_dict() | said))
    else:
        say("\n".join([*found.lines(), f"wrote {file}"]))


def output_file(output: str, endings: tuple[str, ...] = _PICTURES) -> Path:
    """Returns the file of a picture, whose folder is there.

    Args:
        output: Its name.
        endings: What a name may end with.

    Raises:
        ConfigError: Its name tells no format that is written, or it cannot be written there.
    """
    file = Path(output).expanduser()
    if file.suffix.lower() not in endings:
        raise ConfigError(f"output {output}: expected a name that ends with {', '.join(endings)}")
    if not file.parent.is_dir():
        raise ConfigError(f"output {output}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise ConfigError(f"output {output}: is a folder; name a file")
    return file


def write_file(file: Path, content: bytes) -> None:
    """Writes a file whole, in the place of one that is there.

    Raises:
        ConfigError: It cannot be written.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def signed_words(terms: Sequence[str]) -> tuple[list[str], list[str]]:
    """Reads a sum of words, given as arguments or as one text.

    Args:
        terms: Words with '+' or '-' between them, each an argument of its own, or all of them in
            one with blanks between them. A word that holds blanks or a hyphen stays one.

    Returns:
        The words that are added, and those that are taken away.

    Raises:
        ConfigError: Two words or two signs follow each other, or it ends with a sign.
    """
    if len(terms) == 1 and not _SIGNS.keys().isdisjoint(terms[0].split()):
        terms = terms[0].split()
    signed: dict[int, list[str]] = {1: [], -1: []}
    sign: int | None = 1
    for number, term in enumerate(terms):
        is_sign = term in _SIGNS
        if is_sign and (sign is None or number == 0):
            sign = _SIGNS[term]
        elif not is_sign and sign is not None:
            signed[sign].append(term)
            sign = None
        else:
            before = f"behind {terms[number - 1]!r}"
            expected = "a word" if is_sign else "+ or -, each with a blank before and behind it,"
            raise ConfigError(f"{' '.join(terms)}: expected {expected} {before}, not {term!r}")
    if sign is not None:
        raise ConfigError(f"{' '.join(terms)}: expected a word behind the last sign")
    return signed[1], signed[-1]


def _say(found: "Sequence[SimilarWord]", as_json: bool) -> None:
    if as_json:
        say(json.dumps([one.to_dict() for one in found]))
        return
    lines = [f"{one.similarity:.4f}  {' '.join(one.word.splitlines())}" for one in found]
    say("\n".join(lines) if lines else "no other words")
