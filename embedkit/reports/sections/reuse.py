"""How the rows stand to those of an earlier version, and what that saved."""

from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import noun
from embedkit.reports.section import Finding, Nothing, Section


@dataclass(frozen=True)
class SourceRows:
    """How the rows of an input file stand to those of the earlier version.

    Attributes:
        source: The file.
        rows_reused: Rows with the very vectors that it has.
        rows_encoded: The other rows.
        rows_added: Rows whose id it does not have.
        rows_changed: Rows whose id it has with another text.
        rows_removed: Its rows of the file whose id is gone; None where that is not known.
    """

    source: str
    rows_reused: int
    rows_encoded: int
    rows_added: int
    rows_changed: int
    rows_removed: int | None


@dataclass(frozen=True)
class Reuse:
    """What was taken over.

    Attributes:
        versions: Rows that were taken over, by the version.
        rows_compared: Rows that were compared with it.
        rows_reused: See ``RunAccount``.
        rows_encoded: The same.
        rows_added: The same.
        rows_changed: The same.
        rows_removed: The same.
        tokens_saved: The same.
        sources: Input files, those where most is not as it was.
    """

    versions: dict[str, int]
    rows_compared: int
    rows_reused: int
    rows_encoded: int
    rows_added: int | None
    rows_changed: int | None
    rows_removed: int | None
    tokens_saved: int
    sources: list[SourceRows]


@dataclass(frozen=True)
class ReuseFigures:
    """The section's entries of the report."""

    reuse: Reuse


def _figures(statistic: Nothing, facts: Facts) -> ReuseFigures:
    account = facts.account
    assert account.reused is not None, "else the section is left out"
    return ReuseFigures(
        Reuse(
            versions=account.reused.versions,
            rows_compared=account.reused.compared,
            rows_reused=account.rows_reused,
            rows_encoded=account.rows_encoded,
            rows_added=account.rows_added,
            rows_changed=account.rows_changed,
            rows_removed=account.rows_removed,
            tokens_saved=account.tokens_saved,
            sources=[
                SourceRows(source, *counts) for source, counts in account.reused.sources.items()
            ],
        )
    )


def _findings(figures: ReuseFigures, facts: Facts) -> Iterator[Finding]:
    missed = facts.account.rows - figures.reuse.rows_compared
    if missed > 0:
        yield Finding(
            level="note",
            text=f"{noun(missed, 'row')} {'was' if missed == 1 else 'were'} committed by a run "
            "that compared nothing with an earlier version, and counted as encoded.",
        )


def _applies(facts: Facts) -> bool:
    return facts.account.reused is not None


SECTION = Section(__file__, Nothing, _figures, _findings, applies=_applies)
