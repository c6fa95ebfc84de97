"""``embedkit duplicates``: rows of a version that say nearly the same."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import ENDS, Json, Root
from embedkit.cli.logs import say, set_up_logs, table

if TYPE_CHECKING:
    from embedkit.reports.near.figures import NearDuplicates

duplicates = typer.Typer(rich_markup_mode="rich")


@duplicates.command("duplicates", epilog=ENDS)
def duplicates_command(
    root: Root,
    *,
    version: Annotated[
        str | None, typer.Option(metavar="NAME", help="A version of the root, not its newest one.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Least cosine of two near duplicates; 95 % of the way from the mean cosine of "
            "random pairs to 1 unless given.",
        ),
    ] = None,
    no_texts: Annotated[
        bool,
        typer.Option("--no-report-text", metavar="", help="Show no texts of the largest groups."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find near duplicates over all rows of a complete version, and write which to keep.

    The file report/near_duplicates.arrow of the version has a row for each that is in a group: id,
    group, and keep, true of the one with the least id of each group.
    """
    from embedkit.flow.near_duplicates import NEAR_ARROW, near_duplicates_in

    set_up_logs("text")
    of, found = near_duplicates_in(root, version, threshold, not no_texts)
    file = of.url_of(of.key(NEAR_ARROW))
    if as_json:
        said = {name: value for name, value in found.to_dict().items() if name != "parts_digest"}
        say(json.dumps({"version": of.name, **said, "file": file}))
    else:
        say(_text(found, file))


def _text(found: "NearDuplicates", file: str) -> str:
    recall = "none found" if found.recall is None else f"{found.recall:.4f}"
    measured = f"{recall} of {found.recall_pairs:,} pairs of {found.recall_rows:,} rows"
    figures = {
        "rows": found.version_rows,
        "threshold": found.threshold,
        "cosine of random pairs": found.floor,
        "groups": found.groups,
        "rows in groups": found.rows,
        "rows that could go": f"{found.removable:,} ({100 * found.share:.2f} %)",
        "rows of equal texts": found.equal_texts,
        "recall": "every row was compared with every other" if found.exact else measured,
        "file": file,
    }
    lines = [table(figures)]
    for group in found.largest:
        lines.append(f"{group.size:,} rows, such as")
        # An id or text of several lines would look like several rows.
        for row in group.shown:
            said = f"  {row.id}" + ("" if row.text is None else f"  {row.text}")
            lines.append(said.replace("\n", "\\n"))
    return "\n".join(lines)
