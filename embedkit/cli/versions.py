"""``embedkit versions``: what stands below a root."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli.arguments import Json
from embedkit.cli.logs import columns, say, set_up_logs

if TYPE_CHECKING:
    # It loads pyarrow, which --help need not wait for.
    from embedkit.dataset.version_list import ListedVersion

versions = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done, also where a version is damaged, which the list says; 2 no version there; "
    "4 stopped or failed, and the same command may succeed."
)
_DIGITS = 12


@versions.command("versions", epilog=_ENDS)
def versions_command(
    root: Annotated[str, typer.Argument(help="The root that holds the versions.")],
    *,
    as_json: Json = False,
) -> None:
    """List the versions of a root, the newest first."""
    from embedkit.dataset.version_list import list_versions

    set_up_logs("text")
    listed = list_versions(root)
    if as_json:
        say(json.dumps({"versions": [one.to_dict() for one in listed]}))
    else:
        say(columns([_line(one) for one in listed]))


def _line(one: "ListedVersion") -> dict[str, Any]:
    return {
        "version": one.version,
        "date": one.date and one.date.replace("T", " ").removesuffix("+00:00"),
        "rows": one.rows,
        "size": one.size,
        "recipe": one.recipe and one.recipe[:_DIGITS],
        "model": one.model and one.model.rstrip("/").rpartition("/")[2],
        "state": _state(one),
    }


def _state(one: "ListedVersion") -> str:
    if one.fault is not None:
        return f"damaged: {' '.join(one.fault.splitlines())}"
    said = ["complete"] if one.complete else [_progress(one)]
    if one.trial is not None:
        said.append(f"a trial of {one.trial:,} documents")
    if one.published is not None:
        said.append(f"published as number {one.published:,}")
    if one.latest:
        said.append("latest")
    return ", ".join(said)


def _progress(one: "ListedVersion") -> str:
    splits = f" of {one.splits:,}" if one.splits is not None else ""
    return f"unfinished: {one.splits_ended:,}{splits} splits, {one.blocks:,} blocks committed"
