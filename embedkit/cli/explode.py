"""``embedkit explode``: a row per word or token."""

import json
from typing import Annotated

import typer

from embedkit.cli.arguments import Json, Root
from embedkit.cli.logs import say, set_up_logs

explode = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 a bad setting, input or surroundings, which another try cannot help; "
    "4 stopped or failed, and the same command goes on where it was."
)
Output = Annotated[str, typer.Option(help="New directory or URL that the rows are written to.")]


@explode.command("explode", epilog=_ENDS)
def explode_command(root: Root, *, output: Output, as_json: Json = False) -> None:
    """Write one row per word or token of a version that has vectors of them in lists."""
    from embedkit.dataset.explode import explode as explode_version
    from embedkit.dataset.version import find_version

    set_up_logs("text")
    done = explode_version(find_version(root), output)
    said = f"{done.rows:,} rows in {done.files:,} files of {done.size:,} bytes: {done.output}"
    say(json.dumps(done.to_dict()) if as_json else said)
