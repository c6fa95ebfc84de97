"""What a section of the report is made of.

A section is one topic: a module under ``sections`` with what is measured of every block, what the
report says about it, what needs a reader's eye, and beside it the fragment of the page.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypedDict, TypeVar

from pydantic import TypeAdapter

from embedkit.lazy import lazy_property
from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.vectors import VALUE_COLUMNS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class Statistic(Protocol):
    """What is measured of blocks: a dataclass whose defaults are the statistic of no block.

    Adding is associative, and the same blocks in the same order give the same bits however they
    are grouped. It becomes JSON by pydantic: a field that is missing has its default.
    """

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        ...

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of these blocks followed by the others."""
        ...


@dataclass(frozen=True)
class Nothing:
    """The statistic of a section that measures no block."""

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures nothing."""
        return cls()

    def __add__(self, other: Self) -> Self:
        """Returns nothing."""
        return self


class Finding(TypedDict):
    """One thing to look at.

    Attributes:
        level: ``error`` (the dataset should not be used as it is), ``warning`` (it may serve
            worse than it could) or ``note``.
        text: A sentence or two, with the figures and what can be done.
    """

    level: Literal["error", "warning", "note"]
    text: str


Measure = TypeVar("Measure", bound=Statistic)
Figures = TypeVar("Figures", bound="DataclassInstance")


def _no_findings(figures: Any, facts: Facts) -> Iterable[Finding]:
    return ()


def _always(facts: Facts) -> bool:
    return True


@dataclass(frozen=True)
class Section(Generic[Measure, Figures]):
    """One topic of the report.

    Attributes:
        file: The module that it stands in. The fragment of the page is the file beside it that
            ends in ``.html.jinja``; all of ``report.json`` is there for it to show.
        statistic: What is measured of every block.
        figures: Makes the section's figures, whose fields are entries of ``report.json``.
        findings: Says what in them needs a reader's eye.
        columns: The columns of what was computed that it is about, see ``VALUE_COLUMNS``.
        applies: Whether the section has anything to say of a version.
    """

    file: str
    statistic: type[Measure]
    figures: Callable[[Measure, Facts], Figures]
    findings: Callable[[Figures, Facts], Iterable[Finding]] = _no_findings
    columns: tuple[str, ...] = VALUE_COLUMNS
    applies: Callable[[Facts], bool] = _always

    @lazy_property
    def name(self) -> str:
        """The name of the section, under which its statistic stands in sidecars."""
        return Path(self.file).stem

    @property
    def fragment(self) -> Path:
        """The template of the section."""
        return Path(self.file).with_suffix(".html.jinja")

    @lazy_property
    def measures(self) -> bool:
        """Whether anything is measured of blocks."""
        return self.statistic is not Nothing

    @lazy_property
    def codec(self) -> TypeAdapter[Measure]:
        """Turns the statistic into plain values and back."""
        return TypeAdapter(self.statistic)

    def say(self, statistic: Measure, facts: Facts) -> tuple[dict[str, Any], list[Finding]]:
        """Returns the section's entries of ``report.json``, and its findings."""
        figures = self.figures(statistic, facts)
        return asdict(figures), list(self.findings(figures, facts))


QUANTILES = (
    ("p1", 0.01),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p95", 0.95),
    ("p99", 0.99),
)
"""The quantiles that a report gives of a distribution, with their names."""


def share(part: int, whole: int) -> float:
    """Returns which share a part is, 0 of nothing."""
    return part / whole if whole else 0.0
