"""``embedkit compare``: where the vectors of two versions lie."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli.arguments import Earlier, Json, Later
from embedkit.cli.logs import say, set_up_logs, table

if TYPE_CHECKING:
    # They load pyarrow, which --help need not wait for.
    from embedkit.flow.compare import Comparison
    from embedkit.reports.drift.figures import Drift
    from embedkit.reports.drift.shifts import ShiftedCluster

compare = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no such version, or one that cannot be compared; 4 a file of a version "
    "is damaged, or the command was stopped or failed, and may succeed."
)
_LONGEST = 100


@compare.command("compare", epilog=_ENDS)
def compare_command(
    earlier: Earlier,
    later: Later,
    *,
    no_texts: Annotated[
        bool, typer.Option("--no-report-text", metavar="", help="Show no texts of clusters.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say how far the vectors of a version are from those of another one, and what is new there.

    Of versions of one recipe it compares means and covariances of all rows, and samples of 25,000
    rows at most: their laws, and which clusters grew, shrank or moved. Of other recipes it compares
    which rows are the nearest of a row.
    """
    from embedkit.flow.compare import compare_versions

    set_up_logs("text")
    found = compare_versions(earlier, later, not no_texts)
    say(json.dumps(found.to_dict()) if as_json else "\n".join(_lines(found)))


def _lines(found: "Comparison") -> Iterator[str]:
    diff, drift = found.diff, found.drift
    figures: dict[str, Any] = {
        name: f"{side.version.url} ({side.rows:,} rows)"
        for name, side in (("earlier", diff.earlier), ("later", diff.later))
    }
    figures |= {name: getattr(drift.rows, name) for name in ("added", "removed", "changed")}
    figures["unchanged"] = drift.rows.unchanged
    if drift.stored and drift.stored[0] != drift.stored[1]:
        figures["stored"] = f"as {drift.stored[1]}, before as {drift.stored[0]}"
    yield table(figures | (_of_vectors(drift) if drift.same_recipe else {}) | _of_neighbours(drift))
    if drift.why is not None:
        yield f"not compared further, as {drift.why}"
        yield "embedkit evaluate tells which of both is better"
        return
    if not drift.clusters.measured:
        yield f"not parted into clusters: {drift.clusters.why}"
    for cluster in drift.clusters.changed:
        yield from _cluster_lines(cluster)


def _of_vectors(drift: "Drift") -> dict[str, Any]:
    clusters = drift.clusters
    changed = f"{clusters.grew} grew, {clusters.shrank} shrank, {clusters.moved} moved"
    return {
        "cosine of unchanged": f"{drift.unchanged_mean_cosine} (least "
        f"{drift.unchanged_least_cosine}, {drift.unchanged_below} of {drift.unchanged:,} below)",
        "cosine of means": drift.centroid_cosine,
        "Fréchet distance": f"{drift.frechet} (variance {drift.variance})",
        "discrepancy (MMD)": f"{drift.mmd} (p = {drift.mmd_p})",
        "classifier's AUC": drift.auc,
        "clusters": f"{changed}, of {clusters.clusters}" if clusters.measured else None,
    }


def _of_neighbours(drift: "Drift") -> dict[str, Any]:
    said = f"{drift.neighbour_overlap} of the ten nearest, among {drift.common:,} rows of both"
    return {"equal neighbours": None if drift.neighbour_overlap is None else said}


def _cluster_lines(cluster: "ShiftedCluster") -> Iterator[str]:
    terms = ", ".join(cluster.terms) or "a cluster"
    before, now = (f"{100 * one:.1f} %" for one in (cluster.share_before, cluster.share))
    yield f"{' and '.join(cluster.changes)}: {terms} ({before} of rows before, {now} now)"
    for text in cluster.examples:
        # A text of several lines would look like several.
        yield f"    {text[:_LONGEST]}".replace("\n", "\\n")
