"""What this run did, which differs between two runs that wrote the same bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embedkit.reports.account import RunAccount
from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import noun, percent
from embedkit.reports.section import Finding, Nothing, Section

_IDLE = 0.9


@dataclass(frozen=True)
class RunSection:
    """The section's entries of the report.

    Attributes:
        run: See ``RunAccount``, and ``findings`` of their own.
    """

    run: dict[str, Any]


def _figures(statistic: Nothing, facts: Facts) -> RunSection:
    return RunSection({**facts.account.of_the_run(), "findings": list(_findings_of(facts.account))})


def _findings_of(run: RunAccount) -> Iterator[Finding]:
    busy = run.encoder_busy_share
    if run.tokens_encoded and busy is not None and busy < _IDLE:
        yield Finding(
            level="note",
            text=f"Encoders were busy for {percent(busy)} of the encoding "
            "time: reading, tokenizing or writing held them up, or the job was short.",
        )
    if run.not_reused is not None:
        said = run.not_reused
        yield Finding(level="note", text=f"{said[:1].upper()}{said[1:]}.")
    if run.rows_resumed:
        yield Finding(
            level="note",
            text=f"{noun(run.rows_resumed, 'row')} had been committed before this run and "
            f"{'was' if run.rows_resumed == 1 else 'were'} taken over as they stood; "
            "the speed is that of the rest.",
        )


SECTION = Section(__file__, Nothing, _figures)
