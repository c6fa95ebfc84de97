"""``embedkit versions``, ``diff`` and ``rejects``: what stands below a root, and in it."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli.arguments import Earlier, Json, Later, Root
from embedkit.cli.logs import columns, say, set_up_logs, table

if TYPE_CHECKING:
    # They load pyarrow, which --help need not wait for.
    from embedkit.dataset.version_list import ListedVersion
    from embedkit.flow.diff import Difference, DifferentRow, VersionDiff
    from embedkit.flow.rejected import PlacedReject, VersionRejects

versions = typer.Typer(rich_markup_mode="rich")
_ENDS_OF_LIST = (
    "Exit codes: 0 done, also where a version is damaged, which the list says; 2 no version there; "
    "4 stopped or failed, and the same command may succeed."
)
_ENDS = (
    "Exit codes: 0 done; 2 no such version, or a bad setting; 4 a file of a version is damaged, or "
    "the command was stopped or failed, and may succeed."
)
_DIGITS = 12


@versions.command("versions", epilog=_ENDS_OF_LIST)
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
    if one.removing:
        return "being removed; the next prune goes on with it"
    if one.fault is not None:
        return f"damaged: {one.fault}"
    said = ["complete"] if one.complete else [_progress(one)]
    if one.trial is not None:
        said.append(f"a trial of {one.trial:,} documents")
    if one.published is not None:
        said.append(f"published as number {one.published:,}")
    elif one.complete and one.trial is None:
        said.append("not published")
    if one.latest:
        said.append("latest")
    return ", ".join(said)


def _progress(one: "ListedVersion") -> str:
    splits = f" of {one.splits:,}" if one.splits is not None else ""
    return f"unfinished: {one.splits_ended:,}{splits} splits, {one.blocks:,} blocks committed"


@versions.command("diff", epilog=_ENDS)
def diff_command(
    earlier: Earlier,
    later: Later,
    *,
    listed: Annotated[
        bool, typer.Option("--list", metavar="", help="Also list the rows that differ.")
    ] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="List only rows that are so. May be given several times. \\[one of: added, "
            "removed, changed, moved, re_encoded, metadata]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which rows of two versions differ, and whether their recipes do.

    A row is changed where its id has another text; moved, from another file or place in it;
    re_encoded, where its vector has other bytes; metadata, where nothing else differs. Of a version
    that is not complete, what is committed counts. Temporary files on the local disk take 57 bytes
    a row. With --list --json, the counts are the first line, and each row is a line behind it.
    """
    from embedkit.flow.diff import checked_differences, diff_versions

    set_up_logs("text")
    wanted: list[Difference] = checked_differences(kinds or ())
    diff = diff_versions(earlier, later)
    say(json.dumps(diff.to_dict()) if as_json else table(_counts(diff)))
    for row in diff.rows(wanted) if listed or wanted else ():
        say(json.dumps(row.to_dict()) if as_json else _row_line(row))


def _counts(diff: "VersionDiff") -> dict[str, Any]:
    counts = {
        name: value
        for name, value in diff.to_dict().items()
        if name not in ("earlier", "later", "recipe_changes")
    }
    if diff.recipe_changes is None:
        recipe = "not known of both"
    else:
        recipe = "; ".join(diff.recipe_changes) or "the same"
    sides = {"earlier": diff.earlier, "later": diff.later}
    return {
        **{
            name: f"{side.version.url} ({side.rows:,} rows{'' if side.manifest else ' committed'})"
            for name, side in sides.items()
        },
        **counts,
        "recipe": recipe,
    }


def _row_line(row: "DifferentRow") -> str:
    # An id of several lines would look like several rows.
    name, source = (one.replace("\n", "\\n") for one in (row.id, row.source))
    return f"{'+'.join(row.differences)}  {name}  ({source}, {row.place})"


@versions.command("rejects", epilog=_ENDS)
def rejects_command(
    root: Root,
    *,
    listed: Annotated[
        bool, typer.Option("--list", metavar="", help="Also list the records.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="List only records of this reason.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which records could not be embedded, by reason.

    A complete version does not change. Repair the records where they come from and run the job
    again: its inputs are others then, so it makes the next version, which has them, and with
    --reuse they are all that is encoded for it. With --list --json, the counts are the first line,
    and each record is a line behind it.
    """
    from embedkit.flow.rejected import list_rejects

    set_up_logs("text")
    rejects = list_rejects(root)
    records = rejects.records(reason) if listed or reason is not None else ()
    say(json.dumps(rejects.to_dict()) if as_json else _reasons(rejects))
    for one in records:
        say(json.dumps(one.to_dict()) if as_json else _reject_lines(one))


def _reasons(rejects: "VersionRejects") -> str:
    of = "" if rejects.documents is None else f" of {rejects.documents:,} documents"
    head = f"{rejects.version.url}: {rejects.rejects:,} rejects{of}"
    if not rejects.reasons:
        return head
    counts = [{"reason": name, "rejects": count} for name, count in rejects.reasons.items()]
    return f"{head}\n{columns(counts)}"


def _reject_lines(one: "PlacedReject") -> str:
    reject = one.reject
    name, source, excerpt = (
        (text or "").replace("\n", "\\n") for text in (reject.doc_id, reject.source, reject.excerpt)
    )
    said = (
        f"{reject.reason}  {source}, {one.place}{f', id {name}' if name else ''}: {reject.detail}"
    )
    return f"{said}\n    {excerpt}" if excerpt else said
