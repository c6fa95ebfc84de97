"""The report of a version as plain data: ``report.json``, and what ``report.html`` shows."""

import json
from collections.abc import Sequence
from typing import Any

from embedkit.reports.facts import Facts
from embedkit.reports.section import Finding, Section
from embedkit.reports.sections import SECTIONS
from embedkit.reports.statistics import Statistics
from embedkit.reports.verdict import judged

FORMAT = 1
"""Number of this form of the report; it grows when a field changes its meaning or goes."""

Report = dict[str, Any]
"""``format``, whether ``texts`` are shown, the names of the ``sections``, the ``verdict`` and the
``gates`` that it is by, what the figures of each section say, and ``findings``.

All but ``run`` are the same bytes for the same dataset, verdict and gates for the same job, and
``evaluation`` for the same labels.
"""


def build_report(
    statistics: Statistics, facts: Facts, sections: Sequence[Section[Any, Any]] = SECTIONS
) -> Report:
    """Builds the report of a version.

    Args:
        statistics: All blocks' statistics, added in block order.
        facts: What else is known of the version.
        sections: The sections. One that was not measured of every block is left out, and one that
            has nothing to say of this version.
    """
    column = facts.dataset.get("column", "embedding")
    about = [one for one in sections if column in one.columns and one.applies(facts)]
    measured = [section for section in about if statistics.get(section) is not None]
    names = [section.name for section in measured]
    # They stand before the figures.
    report: Report = {
        "format": FORMAT,
        "texts": facts.texts,
        "sections": names,
        "verdict": {},
        "gates": [],
    }
    findings: list[Finding] = []
    for section in measured:
        entries, found = section.say(statistics.get(section), facts)
        report |= entries
        findings += found
    order = {"error": 0, "warning": 1, "note": 2}
    return judged(
        report | {"findings": sorted(findings, key=lambda finding: order[finding["level"]])}
    )


def report_json(report: Report) -> bytes:
    """Serializes a report, indented and in its own order."""
    return (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
