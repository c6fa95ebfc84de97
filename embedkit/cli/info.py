"""``embedkit info`` and ``validate``: what a version says of itself, and whether it holds."""

import json

import typer

from embedkit.cli.arguments import ENDS, Json, Root
from embedkit.cli.logs import say, set_up_logs, table

info = typer.Typer(rich_markup_mode="rich")
_ENDS_OF_VALIDATE = (
    "Exit codes: 0 all as its manifest says; 2 no such version; 4 something is not as it should "
    "be, or the check was stopped."
)


@info.command("info", epilog=ENDS)
def info_command(root: Root, *, as_json: Json = False) -> None:
    """Describe a version, or those of a root that has not published any yet."""
    from embedkit.dataset.describe import describe
    from embedkit.dataset.version import find_versions

    set_up_logs("text")
    described = list(map(describe, find_versions(root)))
    if as_json:
        say(json.dumps(described[0] if len(described) == 1 else {"versions": described}))
    else:
        say("\n\n".join(map(table, described)))


@info.command("validate", epilog=_ENDS_OF_VALIDATE)
def validate_command(root: Root, *, as_json: Json = False) -> None:
    """Read a version back and check everything that its manifest says."""
    from embedkit.dataset.validate import validate
    from embedkit.dataset.version import find_version

    set_up_logs("text")
    report = validate(find_version(root))
    say(json.dumps(report.to_dict()) if as_json else report.to_text())
    if report.problems:
        raise typer.Exit(4)
