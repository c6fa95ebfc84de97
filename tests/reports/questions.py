"""A section as one is added: how many texts ask something."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import pyarrow.compute as pc

from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.section import Finding, Section, share


@dataclass(frozen=True)
class Questions:
    """Texts that end in a question mark."""

    count: int = 0

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Counts those of one block."""
        asking = pc.ends_with(measured.block.rows.column("text"), "?")
        return cls(pc.sum(asking).as_py() or 0)

    def __add__(self, other: Self) -> Self:
        """Returns the count of both."""
        return type(self)(self.count + other.count)


@dataclass(frozen=True)
class QuestionFigures:
    """The section's entry of the report."""

    questions: dict[str, float]


def _figures(statistic: Questions, facts: Facts) -> QuestionFigures:
    part = share(statistic.count, facts.account.rows)
    return QuestionFigures({"count": statistic.count, "share": part})


def _findings(figures: QuestionFigures, facts: Facts) -> Iterator[Finding]:
    if figures.questions["share"] > 0.5:
        yield Finding(level="note", text="Most texts ask something.")


SECTION = Section(__file__, Questions, _figures, _findings)
