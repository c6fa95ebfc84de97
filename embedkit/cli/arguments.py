"""Arguments and flags that several commands have."""

from typing import Annotated, Literal

import typer

SIZING = "A run on other machines"
"""Heading of the options that tell ``plan`` of them."""

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...", help="A job file (.yaml), or files, directories, globs and URLs."
    ),
]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON for programs.")]
Progress = Annotated[
    Literal["auto", "bar", "lines", "none"],
    typer.Option(
        metavar="TEXT",
        help="How progress is shown; auto draws a bar on a terminal, else a line every 30 s. "
        "\\[one of: auto, bar, lines, none; default: auto]",
        show_default=False,
    ),
]
LogFormat = Annotated[
    Literal["text", "json"],
    typer.Option(
        metavar="TEXT",
        help="How log lines are written to stderr. \\[one of: text, json; default: text]",
        show_default=False,
    ),
]
Root = Annotated[
    str, typer.Argument(help="A dataset's root, for its newest version, or ROOT/VERSION.")
]
Earlier = Annotated[
    str, typer.Argument(help="A version, or a root for its newest one.", metavar="EARLIER")
]
Later = Annotated[
    str, typer.Argument(help="The other one, of the same root or another.", metavar="LATER")
]
Documents = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Size a run for so many records, of which the inputs are a sample.",
        rich_help_panel=SIZING,
    ),
]
TokensPerSecond = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Tokens per second of one encoder, as it was measured; guessed unless given.",
        rich_help_panel=SIZING,
    ),
]
PricePerHour = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="What one encoder costs an hour, its share of a machine included, in any currency.",
        rich_help_panel=SIZING,
    ),
]

ENDS = (
    "Exit codes: 0 done; 2 a bad setting, input or surroundings, which another try cannot help; "
    "4 stopped or failed, and the same command may succeed."
)
"""What the exit codes of most commands mean."""
