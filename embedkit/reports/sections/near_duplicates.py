"""Rows that say nearly the same as others, over all rows.

Blocks know nothing of each other, so nothing is measured of them: all rows are compared when the
version is complete.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from embedkit.reports.facts import Facts
from embedkit.reports.near.figures import NearDuplicates, NearGroup
from embedkit.reports.phrasing import noun, percent
from embedkit.reports.section import Finding, Nothing, Section

_MANY = 0.05
_LOST = 0.95
_ENOUGH_PAIRS = 50


@dataclass(frozen=True)
class Near:
    """Near duplicates among all rows.

    Attributes:
        measured: Whether they were looked for; what else there is to say is None where not.
        why: Why they were not.
        threshold: Least cosine of two near duplicates.
        floor: Mean cosine of random pairs.
        groups: Groups of rows that are near each other, directly or by others of them.
        rows: Rows in groups.
        removable: Rows that could go, so that one of each group is left.
        share: Their share of all rows.
        equal_texts: Rows that have the very text of another one; these are in groups as well.
        compared: Rows of different texts whose vectors were compared.
        unusable: Rows left out because their vector has no direction.
        recall: Share of the pairs that brute force finds, for some rows, that were found.
        recall_pairs: How many pairs that are.
        recall_rows: For how many rows.
        exact: Whether every row was compared with every other, so that nothing can be lost.
        file: Where the groups are, relative to the version.
        largest: The largest groups: ``size`` and some rows, ``shown``, the one to keep first.
    """

    measured: bool
    why: str | None = None
    threshold: float | None = None
    floor: float | None = None
    groups: int | None = None
    rows: int | None = None
    removable: int | None = None
    share: float | None = None
    equal_texts: int | None = None
    compared: int | None = None
    unusable: int | None = None
    recall: float | None = None
    recall_pairs: int | None = None
    recall_rows: int | None = None
    exact: bool | None = None
    file: str | None = None
    largest: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class NearFigures:
    """The section's entries of the report."""

    near_duplicates: Near


def _figures(statistic: Nothing, facts: Facts) -> NearFigures:
    found = facts.near_duplicates
    if not isinstance(found, NearDuplicates):
        return NearFigures(Near(False, found))
    return NearFigures(
        Near(
            measured=True,
            threshold=found.threshold,
            floor=found.floor,
            groups=found.groups,
            rows=found.rows,
            removable=found.removable,
            share=found.share,
            equal_texts=found.equal_texts,
            compared=found.compared,
            unusable=found.unusable,
            recall=found.recall,
            recall_pairs=found.recall_pairs,
            recall_rows=found.recall_rows,
            exact=found.exact,
            file="report/near_duplicates.arrow",
            largest=[_told(group, facts) for group in found.largest],
        )
    )


def _told(group: NearGroup, facts: Facts) -> dict[str, Any]:
    def row(shown: dict[str, Any]) -> dict[str, Any]:
        shown.pop("unknown")
        place = facts.place(shown["source"], shown["row_index"], shown["line"])
        return {**shown, "place": place}

    return {"size": group.size, "shown": [row(asdict(one)) for one in group.shown]}


def _findings(figures: NearFigures, facts: Facts) -> Iterator[Finding]:
    near = figures.near_duplicates
    if near.share is not None and near.share >= _MANY:
        yield Finding(
            level="warning",
            text=f"{percent(near.share)} of rows are near duplicates that could go: searches give "
            f"several hits that say the same. {near.file} says which of each group to keep.",
        )
    pairs = near.recall_pairs or 0
    if near.recall is not None and pairs >= _ENOUGH_PAIRS and near.recall < _LOST:
        yield Finding(
            level="note",
            text=f"{percent(1 - near.recall)} of {noun(pairs, 'pair')} of near duplicates that "
            "brute force finds for some rows were not found: there are more than is said.",
        )


def _applies(facts: Facts) -> bool:
    return facts.near_duplicates is not None


SECTION = Section(__file__, Nothing, _figures, _findings, applies=_applies)
