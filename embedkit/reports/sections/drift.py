"""How the vectors lie to those of the version that was published before this one."""

from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.reports.drift.figures import ALIKE, Drift
from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import count, noun, significant
from embedkit.reports.section import Finding, Nothing, Section

_TOLD_APART = 0.75


@dataclass(frozen=True)
class DriftFigures:
    """The section's entry of the report."""

    drift: Drift


def _figures(statistic: Nothing, facts: Facts) -> DriftFigures:
    assert facts.drift is not None, "else the section is left out"
    return DriftFigures(facts.drift)


def _stored_alike(drift: Drift) -> bool:
    return len({one.replace("float16", "float32") for one in drift.stored}) == 1


def _findings(figures: DriftFigures, facts: Facts) -> Iterator[Finding]:
    drift = figures.drift
    if drift.unchanged_below and _stored_alike(drift):
        yield Finding(
            level="warning",
            text=f"{noun(drift.unchanged_below, 'row')} of {count(drift.unchanged or 0)} in the "
            "samples whose text is what it was have another vector (least cosine "
            f"{significant(drift.unchanged_least_cosine or 0, 3)}, where {ALIKE:g} and more are "
            "usual): they are not of the same model, pooling or weights.",
        )
    if drift.auc is not None and drift.auc >= _TOLD_APART:
        why = "the corpus is about something else than before"
        if not _stored_alike(drift):
            before, now = drift.stored
            why = f"vectors are stored as {now}, before as {before}, or {why}"
        yield Finding(
            level="note",
            text=f"A simple classifier tells rows from those of version {drift.version} (AUC "
            f"{significant(drift.auc, 3)}): {why}.",
        )


def _applies(facts: Facts) -> bool:
    return facts.drift is not None


SECTION = Section(__file__, Nothing, _figures, _findings, applies=_applies)
