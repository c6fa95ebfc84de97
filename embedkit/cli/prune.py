"""``embedkit prune``: removes versions that nobody needs."""

import json
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import say, set_up_logs
from embedkit.errors import ConfigError

if TYPE_CHECKING:
    from embedkit.dataset.prune import Verdict

prune = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no such root, or a bad setting; 4 stopped or failed, and the same "
    "command goes on where it was."
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9})([smhdw])")


@prune.command("prune", epilog=_ENDS)
def prune_command(
    root: Annotated[str, typer.Argument(help="The root that holds the versions.")],
    *,
    keep: Annotated[
        int, typer.Option(min=1, help="So many of the newest published versions stay.")
    ] = 1,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="Only what was written before goes: 30d, 12h, or a date such as 2026-01-31; "
            "versions that are unfinished or were not published go by that alone.",
        ),
    ] = None,
    alive: Annotated[
        str,
        typer.Option(
            metavar="AGE",
            help="An unfinished version whose writer was heard of since may still be written, and "
            "stays; an hour is added for clocks that differ.",
        ),
    ] = "24h",
    yes: Annotated[
        bool, typer.Option("--yes", metavar="", help="Remove; without it, only say what would go.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove older versions of a root, and unfinished ones that nobody writes any more."""
    from embedkit.dataset.prune import Policy, Prune

    set_up_logs("text")
    now = time.time()
    before = None if older_than is None else moment("--older-than", older_than, now)
    policy = Policy(keep, before, now - moment("--alive", alive, now))
    pruning = Prune(root, policy)
    verdicts = []
    for verdict in pruning.remove() if yes else pruning.verdicts():
        verdicts.append(verdict)
        if not as_json:
            say(_line(verdict, yes))
    say(_json(verdicts, yes) if as_json else _sum(verdicts, yes))


def moment(flag: str, text: str, now: float) -> float:
    """Returns the moment that an age or a date means, in seconds since the epoch.

    Args:
        flag: What it was given as.
        text: An age such as ``30d``, or a date or time of ISO 8601; of this machine's zone unless
            it names one.
        now: The time, in seconds since the epoch.

    Raises:
        ConfigError: It is neither, or in the future.
    """
    age = _DURATION.fullmatch(text.strip())
    if age is not None:
        return now - int(age[1]) * _UNITS[age[2]]
    try:
        then = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{flag}: {text!r} is no age or date; expected one such as 30d, 12h or 2026-01-31"
        ) from error
    if then > now:
        raise ConfigError(f"{flag}: {text} is in the future; give an age or a date that is past")
    return then


def _line(verdict: "Verdict", done: bool) -> str:
    what = ("removed     " if done else "would remove") if verdict.goes else "stays       "
    size = "" if verdict.size is None else f"; {_size(verdict)}"
    return f"{what}  {verdict.version}  {verdict.why}{size}"


def _size(verdict: "Verdict") -> str:
    return f"{verdict.size:,} bytes in {verdict.objects:,} objects"


def _sum(verdicts: Sequence["Verdict"], done: bool) -> str:
    gone = [verdict for verdict in verdicts if verdict.goes]
    size = sum(verdict.size or 0 for verdict in gone)
    said = f"{len(gone):,} of {len(verdicts):,}, {size:,} bytes"
    if done:
        return f"removed {said}"
    return f"would remove {said}" + ("; --yes removes them" if gone else "")


def _json(verdicts: Sequence["Verdict"], done: bool) -> str:
    gone = [verdict.to_dict() for verdict in verdicts if verdict.goes]
    kept = [verdict.to_dict() for verdict in verdicts if not verdict.goes]
    size = sum(verdict.size or 0 for verdict in verdicts if verdict.goes)
    return json.dumps({"dry_run": not done, "removed": gone, "kept": kept, "size": size})
