"""Texts that more than one row has.

Whether a text repeats cannot be told from blocks by themselves, so nothing is measured of them:
their text hashes are compared when the version is complete.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import percent
from embedkit.reports.section import Finding, Nothing, Section, share

_DUPLICATES = 0.01


@dataclass(frozen=True)
class Duplicates:
    """Rows whose text another row has, word for word.

    Attributes:
        exact: That all rows were compared.
        rows: Rows that repeat an earlier text.
        share: Their share of all rows.
        texts: Texts that repeat.
        top: The most repeated ones: ``count``, the first row that has it, its ``text`` where that
            is shown, and for a person ``place``.
    """

    exact: bool
    rows: int
    share: float
    texts: int
    top: list[dict[str, Any]]


@dataclass(frozen=True)
class RepeatedFigures:
    """The section's entries of the report."""

    duplicates: Duplicates


def _figures(statistic: Nothing, facts: Facts) -> RepeatedFigures:
    sampled = {row.text_hash: row.text for row in facts.sample.rows}
    top = [asdict(text) for text in facts.repeats.top]
    for text in top:
        text["text"] = text["text"] or sampled.get(text["text_hash"]) or None
        text["place"] = facts.place(text["source"], text["row_index"], text["line"])
    return RepeatedFigures(
        Duplicates(
            exact=True,
            rows=facts.repeats.rows,
            share=share(facts.repeats.rows, facts.account.rows),
            texts=facts.repeats.texts,
            top=top,
        )
    )


def _findings(figures: RepeatedFigures, facts: Facts) -> Iterator[Finding]:
    if figures.duplicates.share >= _DUPLICATES:
        yield Finding(
            level="warning",
            text=f"{percent(figures.duplicates.share)} of rows repeat the text of another row "
            "word for word: the same hit will fill several places of a search.",
        )


SECTION = Section(__file__, Nothing, _figures, _findings)
