"""``embedkit publish``: lets ``LATEST`` name the version of a person's choice."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import say, set_up_logs

if TYPE_CHECKING:
    # It loads pyarrow, which --help need not wait for.
    from embedkit.flow.publish_by_hand import Publication

publish = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no such version, or one that is never published; 4 it is not complete "
    "or damaged, or the command was stopped or failed, and may succeed."
)


@publish.command("publish", epilog=_ENDS)
def publish_command(
    path: Annotated[
        str, typer.Argument(help="The version as ROOT/VERSION, or its root.", metavar="VERSION")
    ],
    *,
    version: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the version, where a root is given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let LATEST name a complete version: one that a gate kept back, or an older one again.

    Nothing is encoded or checked anew. The next run that publishes takes its place.
    """
    from embedkit.flow.publish_by_hand import publish_version

    set_up_logs("text")
    done = publish_version(path, version)
    say(json.dumps(done.to_dict()) if as_json else _text(done))


def _text(done: "Publication") -> str:
    was = "named no version" if done.before is None else f"named {done.before}"
    if done.before == done.version:
        was = "named it already"
    if not done.latest:
        return f"published {done.version}; LATEST {was}, and names another one published meanwhile"
    said = "" if done.verdict is None else f"\n  its report: {done.verdict}"
    return f"LATEST names {done.version}; before, it {was}{said}"
