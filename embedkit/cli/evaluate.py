"""``embedkit evaluate``: what a version is worth."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedkit.cli.arguments import Json, Root
from embedkit.cli.logs import columns, say, set_up_logs
from embedkit.cli.options import read_settings, with_options
from embedkit.cli.words import output_file, write_file
from embedkit.config import EvaluationConfig

if TYPE_CHECKING:
    # They load NumPy and pyarrow, which --help need not wait for.
    from embedkit.search.evaluate.correlation import Correlation
    from embedkit.search.evaluate.evaluate import EvaluatedVersion
    from embedkit.search.evaluate.retrieval import Retrieval, WorstQuery
    from embedkit.search.evaluate.storage import StorageCost

evaluate = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no such version, a bad setting, or labels that cannot be used; 4 "
    "stopped or failed, and the same command may succeed."
)
_MOST = 100


@evaluate.command("evaluate", epilog=_ENDS)
@lambda function: with_options(function, {"Evaluation": EvaluationConfig}, ())
def evaluate_command(
    root: Root,
    *,
    settings: dict[str, Any],
    version: Annotated[
        str | None, typer.Option(help="Name of the version; the newest unless given.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The dataset's model, where it is no longer where the run found it."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write the figures there, as JSON.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold a version against labels, or queries made of it, and tell what less storage costs.

    Queries are encoded with the dataset's model and its prompt for queries, all other texts as the
    dataset's documents were, both in float32. Intervals hold 95 %, by a bootstrap.
    """
    from embedkit.search.evaluate.evaluate import evaluate_version

    set_up_logs("text")
    file = output_file(output, (".json",)) if output is not None else None
    config = read_settings(EvaluationConfig, settings)
    place = root if version is None else f"{root.rstrip('/')}/{version}"
    found = evaluate_version(place, config, model)
    if file is not None:
        write_file(file, json.dumps(found.to_dict(), indent=1).encode() + b"\n")
    say(json.dumps(found.to_dict()) if as_json else _text(found))


def _text(found: "EvaluatedVersion") -> str:
    lines = [f"version {found.version}, model {found.model}"]
    for name, one in found.evaluation.sts.items():
        lines += ["", *_correlation(name, one)]
    for name, retrieval in found.evaluation.retrieval.items():
        lines += ["", *_retrieval(name, retrieval)]
    if (items := found.evaluation.known_items) is not None:
        lines += ["", *_retrieval("known_items", items)]
    for name, costs in found.evaluation.storage.items():
        lines += ["", *_storage(name, costs)]
    return "\n".join(lines)


def _correlation(name: str, found: "Correlation") -> list[str]:
    figures = {"spearman": found.spearman, "pearson": found.pearson}
    return [
        f"{name}: {found.pairs:,} pairs, their cosines against their scores",
        *_figures(figures, found.intervals),
    ]


def _retrieval(name: str, found: "Retrieval") -> list[str]:
    among = {"version": "of the version", "corpus": "of the folder, encoded anew"}
    head = (
        f"{name}: {found.queries:,} queries among {found.documents:,} documents "
        f"{among.get(found.documents_from, found.documents_from)}"
    )
    if found.unanswered:
        head += f"; {found.unanswered:,} queries that no document answers are left out"
    about = [] if found.about is None else [f"  {found.about}"]
    lines = [head, *about, *_figures(found.measured.means, found.measured.intervals())]
    lines.append("  the queries of least ndcg@10:")
    for query in found.worst:
        lines += _worst(query)
    return lines


def _storage(name: str, costs: "Mapping[str, StorageCost]") -> list[str]:
    rows = []
    for way, cost in costs.items():
        figures = cost.to_dict()
        measures = {key: _digits(value) for key, value in figures.items() if "@" in key}
        of_all = {"map": _digits(figures["map"])} if "map" in figures else {}
        rows.append({"stored as": way, "bytes a row": cost.bytes_per_row, **measures, **of_all})
    head = f"storage, by {name}: recall@10 is of the ten nearest by float32"
    return [
        head,
        *(f"  {line}" for line in columns(rows).splitlines()),
        *(f"  {way}: {cost.formula}" for way, cost in costs.items()),
    ]


def _worst(query: "WorstQuery") -> list[str]:
    lines = [f"    {query.measures['ndcg@10']:.4f}  {query.id}  {_beginning(query.text)}"]
    for found in query.found:
        answers = "found" if found.relevant else "wrong"
        lines.append(f"      {answers} {found.rank:>5}  {found.id}  {_beginning(found.text)}")
    for wanted in query.expected:
        if wanted not in query.found:
            place = "    -" if wanted.rank is None else f"{wanted.rank:>5}"
            lines.append(f"      right {place}  {wanted.id}  {_beginning(wanted.text)}")
    return lines


def _beginning(text: str | None) -> str:
    shown = " ".join((text or "").split())
    return shown if len(shown) <= _MOST else f"{shown[:_MOST]}…"


def _figures(figures: Any, intervals: Any) -> list[str]:
    rows = [
        {
            "measure": name,
            "value": _digits(value),
            "95 % of draws": " to ".join(map(_digits, intervals[name] or (None, None))),
        }
        for name, value in figures.items()
    ]
    return [f"  {line}" for line in columns(rows).splitlines()]


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
