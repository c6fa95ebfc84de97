"""Gates: figures of a report held against the limits that a job gives for them."""

import difflib
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedkit.config import Gate
from embedkit.reports.phrasing import significant

SHORT_NAMES = {
    "truncated_share": "truncation.row_share",
    "unknown_share": "unknown.token_share",
    "reject_share": "rejects.share",
    "duplicate_share": "duplicates.share",
    "near_duplicate_share": "near_duplicates.share",
    "mean_cosine": "similarity.mean_cosine",
    "ndcg@10": "evaluation.ndcg@10",
    "recall@100": "evaluation.recall@100",
    "mrr@10": "evaluation.mrr@10",
    "map": "evaluation.map",
    "spearman": "evaluation.spearman",
    "errors": "verdict.errors",
    "warnings": "verdict.warnings",
}
"""What gates may call figures that are often asked for, where a report has no such figure."""

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_NAMES = ("name", "label", "reason", "source", "column", "encoder")
"""Fields that tell the entries of a list from one another, in the place of a number."""

_MOST_SHOWN = 60
_ALIKE = 0.5


@dataclass(frozen=True)
class GateResult:
    """What became of one gate.

    Attributes:
        expression: The gate.
        figure: The figure; None where there is none.
        limit: What it was compared with.
        passed: Whether a version may be published for all that this gate says.
        by: How far the figure of a failed gate is from its limit; None where there is no figure.
        why: What is to be said of it, for a person.
    """

    expression: str
    figure: float | None
    limit: float
    passed: bool
    by: float | None
    why: str


def check_gate(gate: Gate, report: Mapping[str, Any]) -> GateResult:
    """Holds a gate against a report. Without its figure it fails, unless that is optional.

    Args:
        gate: The gate.
        report: What ``build_report`` gave, or ``report.json`` read back.
    """
    found = list(_figures(gate.path, report))
    # An entry may have the name of a figure, as a map of rows has that of a mean precision.
    if gate.path in SHORT_NAMES and all(isinstance(one, Mapping) for one in found):
        found = list(_figures(SHORT_NAMES[gate.path], report))
    figure = found[0] if found else None
    if figure is None or not _is_figure(figure):
        why = _why_none(gate, found, report)
        return GateResult(str(gate), None, gate.limit, gate.optional, None, why)
    failed = _HOLDS[gate.operator](figure, gate.limit)
    by = abs(figure - gate.limit) if failed else None
    why = f"the figure is {_compared(figure, gate.limit)}"
    return GateResult(str(gate), figure, gate.limit, not failed, by, why)


def _is_figure(value: Any) -> bool:
    """Whether it can be compared; of what is not a number, no condition ever holds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _figures(path: str, report: Mapping[str, Any]) -> Iterator[Any]:
    """Yields what stands at a path; names may hold dots themselves, as those of files do."""
    return _at(path.split("."), report)


def _at(steps: Sequence[str], value: Any) -> Iterator[Any]:
    if not steps:
        yield value
        return
    for end in range(len(steps), 0, -1):
        name = ".".join(steps[:end])
        for inner in _named(name, value):
            yield from _at(steps[end:], inner)


def _named(name: str, value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if name in value:
            yield value[name]
    elif isinstance(value, list):
        if name.isdecimal() and int(name) < len(value):
            yield value[int(name)]
        entries = (one for one in value if isinstance(one, Mapping))
        yield from (one for one in entries if any(one.get(field) == name for field in _NAMES))


def _compared(figure: float, limit: float) -> str:
    if figure == limit:
        return f"{limit:.12g}"
    far = significant(abs(figure - limit), 3)
    return f"{_shown(figure)}, {far} {'above' if figure > limit else 'below'} {limit:.12g}"


def _shown(figure: float) -> str:
    return f"{figure:,}" if isinstance(figure, int) else significant(figure)


def _why_none(gate: Gate, found: Sequence[Any], report: Mapping[str, Any]) -> str:
    if found:
        held = json.dumps(found[0])
        held = held if len(held) <= _MOST_SHOWN else held[:_MOST_SHOWN] + "…"
        what = "null" if held == "null" else f"no number, but {held}"
        path = SHORT_NAMES.get(gate.path, gate.path)
        beside = next(_figures(f"{path.rpartition('.')[0]}.why", report), None)
        why = f": {beside}" if isinstance(beside, str) else ""
        return f"the report has {what} in the place of the figure{why}"
    like = near_matches(gate.path, report)
    meant = f"; it has {', '.join(like)}" if like else "; give the path of a number in report.json"
    return f"the report has no such figure{meant}"


def near_matches(path: str, report: Mapping[str, Any], most: int = 3) -> list[str]:
    """Returns the names of figures that are most like a path which a report does not have."""
    paths = [*_paths(report), *(name for name in SHORT_NAMES if _has(SHORT_NAMES[name], report))]
    end = path.rpartition(".")[2]
    by_end = [one for one in paths if one.rpartition(".")[2] == end]
    like = difflib.get_close_matches(path, paths, most, _ALIKE)
    return list(dict.fromkeys([*by_end, *like]))[:most]


def _has(path: str, report: Mapping[str, Any]) -> bool:
    return any(True for _ in _figures(path, report))


def _paths(report: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{above}{name}.")
        elif _is_figure(value):
            yield f"{above}{name}"
