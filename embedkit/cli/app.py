"""The command line: parse, call, print."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from embedkit import __version__
from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import say
from embedkit.errors import ConfigError

COMMANDS = {
    "run": ("run", "Embed a corpus, or resume where an earlier run of the same job stopped."),
    "plan": ("run", "Say what a run would read and how long it may take; run nothing."),
    "info": ("info", "Describe a version, or those of a root that has not published any yet."),
    "search": ("search", "Find the rows nearest to a text; exactly, where there is no index."),
    "validate": ("info", "Read a version back and check everything that its manifest says."),
    "init": ("run", "Write a commented job file that fits an input and a model."),
    "dataflow": ("pipelines", "Send a job to Dataflow."),
    "beam-yaml": ("pipelines", "Run a pipeline written in Beam YAML."),
    "schema": ("run", "Print the JSON schema of a job file, for editors."),
    "train": (
        "train",
        "Make a model of static vectors: trained on a corpus, or distilled from another model.",
    ),
    "words": ("words", "Look at words: similar ones, analogies, the odd one out, a picture."),
    "explode": (
        "explode",
        "Write one row per word or token of a version that has vectors of them in lists.",
    ),
    "duplicates": (
        "duplicates",
        "Find near duplicates over all rows of a complete version, and write which to keep.",
    ),
    "export": ("export", "Write an index of a version, or files that another system loads."),
    "convert": (
        "convert",
        "Make a model directory of a file of word vectors, for run --model DIR.",
    ),
    "rerank": (
        "rerank",
        "Score pairs of a query and a text by a cross-encoder, or resume where a run stopped.",
    ),
    "evaluate": (
        "evaluate",
        "Hold a version against labels, or queries made of it, and tell what less storage costs.",
    ),
    "versions": ("versions", "List the versions of a root, the newest first."),
    "diff": ("versions", "Say which rows of two versions differ, and whether their recipes do."),
    "rejects": ("versions", "Say which records could not be embedded, by reason."),
    "compare": (
        "compare",
        "Say how far the vectors of a version are from those of another one, and what is new "
        "there.",
    ),
    "status": ("status", "Say how far a version is, wherever it is being written."),
    "prune": (
        "prune",
        "Remove older versions of a root, and unfinished ones that nobody writes any more.",
    ),
    "publish": (
        "publish",
        "Let LATEST name a complete version: one that a gate kept back, or an older one again.",
    ),
    "report": (
        "report",
        "Make the report of a complete version anew, as another release would write it.",
    ),
}
"""Every command: the module here that has it, under that module's name, and what it does."""

# Base of what is wrong with a command line; typer has no public name for it in all its versions.
_UsageError: Any = typer.BadParameter.__base__
_SUGGESTED = re.compile(r"\. Did you mean (.+)\?$")


class _Commands(TyperGroup):
    """The commands, each of which is imported when it is asked for and no earlier."""

    _listing = False

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # These are for lists and for the names that a mistake may have meant.
        self.commands = {
            name: TyperCommand(name, help=what) for name, (_, what) in COMMANDS.items()
        }

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if self._listing or cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        return command_of(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with self._only_listed():
            super().format_help(ctx, formatter)

    @contextmanager
    def _only_listed(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False


def command_of(name: str) -> Any:
    """Imports a command, by its name."""
    module, _ = COMMANDS[name]
    group = getattr(import_module(f"embedkit.cli.{module}"), module)
    found = typer.main.get_group(group)
    return found if group.info.name == name else found.commands[name]


app = typer.Typer(
    name="embedkit",
    cls=_Commands,
    help="Turns a text corpus into an embedding dataset.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


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
