"""``embedkit status``: how far versions are, from their files alone."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import say, set_up_logs

if TYPE_CHECKING:
    from embedkit.dataset.status import Status

status = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no version there; 4 stopped or failed, and the same command may succeed."
)


@status.command("status", epilog=_ENDS)
def status_command(
    root: Annotated[
        str,
        typer.Argument(
            help="ROOT/VERSION, or a root, for its unfinished versions and its newest one."
        ),
    ],
    *,
    as_json: Json = False,
) -> None:
    """Say how far a version is, wherever it is being written."""
    from embedkit.dataset.status import status_of

    set_up_logs("text")
    found = status_of(root)
    if as_json:
        told = [one.to_dict() for one in found]
        say(json.dumps(told[0] if len(told) == 1 else {"versions": told}))
    else:
        say("\n\n".join(map(_text, found)))


def _text(one: "Status") -> str:
    from embedkit.engines.display import clock

    splits = f" of {one.splits:,}" if one.splits is not None else ""
    share = f", {one.share:.1%} of the input" if one.share is not None else ""
    lines = [
        f"version {one.version}: {_state(one)}",
        f"  {one.splits_ended:,}{splits} splits, {one.blocks:,} blocks{share}",
        f"  {one.documents:,} documents -> {one.rows:,} rows, {one.rejects:,} rejects, "
        f"{one.tokens:,} tokens",
    ]
    if one.blocks_uncounted:
        lines.append(f"  and what {one.blocks_uncounted:,} blocks hold, which nobody has listed")
    if one.rows_reused:
        lines.append(
            f"  {one.rows_encoded:,} rows encoded, {one.rows_reused:,} taken over"
            + (f" from version {one.reuses}" if one.reuses else "")
        )
    if one.rows_per_second is not None:
        left = "" if one.seconds_left is None else f", some {clock(one.seconds_left)} left"
        tokens = f"{one.tokens_per_second:,.0f} tokens/s"
        lines.append(f"  {one.rows_per_second:,.1f} rows/s, {tokens}{left}")
    return "\n".join(lines)


def _state(one: "Status") -> str:
    if one.state == "complete":
        return "complete"
    if one.state == "removed":
        return "being removed by embedkit prune, or by one that was stopped, which the next ends"
    if one.heartbeat_seconds is None:
        return "unfinished, and nobody said that he writes it"
    from embedkit.engines.display import clock

    ago = f"host {one.host or 'unknown'}, {clock(one.heartbeat_seconds)} ago"
    if one.state == "running":
        return f"being written by {ago}"
    return f"unfinished, and not written now: last by {ago}"
