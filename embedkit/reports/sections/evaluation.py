"""What the version is worth: against judgments, without labels, and for less storage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedkit.reports.facts import Facts
from embedkit.reports.section import Nothing, Section


@dataclass(frozen=True)
class EvaluationFigures:
    """The section's entries of the report.

    Attributes:
        evaluation: ``asked`` (a hash of what was), the least of each figure over all files and
            folders, such as ``ndcg@10``, and what was asked by name: ``sts``, ``retrieval``,
            ``known_items`` and ``storage``.
    """

    evaluation: dict[str, Any]


def _figures(statistic: Nothing, facts: Facts) -> EvaluationFigures:
    return EvaluationFigures({})


def _not_yet(facts: Facts) -> bool:
    """A version is evaluated when it is complete, and has its report already."""
    return False


SECTION = Section(__file__, Nothing, _figures, applies=_not_yet)


def without_texts(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures of an evaluation without the texts of queries and documents."""

    def told(value: Any) -> Any:
        if isinstance(value, list):
            return [told(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {name: None if name == "text" else told(one) for name, one in value.items()}

    return {name: told(value) for name, value in evaluation.items()}


def with_evaluation(report: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a report with the figures of an evaluation, in the place of any that it has.

    Args:
        report: What ``build_report`` gave, or ``report.json`` read back.
        evaluation: The figures by name.
    """
    names = [name for name in report["sections"] if name != SECTION.name]
    others = {
        name: value for name, value in report.items() if name not in ("evaluation", "findings")
    }
    return {
        **others,
        "sections": [*names, SECTION.name],
        "evaluation": dict(evaluation),
        "findings": report["findings"],
    }
