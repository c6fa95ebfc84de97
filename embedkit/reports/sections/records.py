"""Whether every record is accounted for, and why records were rejected."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import pyarrow.compute as pc

from embedkit.records import Nulled, Reject, add_nulled
from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import count, noun, percent
from embedkit.reports.section import Finding, Section, share

MOST_EXAMPLES = 5
"""Rejects of one reason that a report shows."""

MANY_REJECTS = 0.01
"""Share of rejected documents from which on a reader is warned."""

_DAMAGED_FILE = "damaged_file"


@dataclass(frozen=True)
class Records:
    """What became of the input records.

    Attributes:
        documents: Input records accounted for, rejects included.
        embedded: Documents that became rows.
        rows: Rows, which are documents or chunks of them.
        rejects: Records that could not be embedded, by reason.
        first_rejects: For each reason the first blocks with such rejects, and how many each has,
            up to five rejects.
        nulled: Metadata values that did not fit their columns and became null, by column.
    """

    documents: int = 0
    embedded: int = 0
    rows: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    first_rejects: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    nulled: tuple[Nulled, ...] = ()

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        block = measured.block
        reasons = _reasons(block.rejects)
        return cls(
            documents=block.documents,
            embedded=pc.count_distinct(block.rows.column("doc_id")).as_py() - block.continues,
            rows=block.rows.num_rows,
            rejects=reasons,
            first_rejects=_in_block(block.block_id, reasons),
            nulled=block.nulled,
        )

    @classmethod
    def of_rejects(cls, block_id: str, documents: int, rejects: Sequence[Reject]) -> Self:
        """Returns the statistic of a block without rows."""
        reasons = _reasons(rejects)
        first = _in_block(block_id, reasons)
        return cls(documents=documents, rejects=reasons, first_rejects=first)

    def in_block(self, block_id: str) -> Self:
        """Returns the statistic of one block as that of a block of another name."""
        return replace(self, first_rejects=_in_block(block_id, self.rejects))

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of these blocks followed by the others."""
        reasons = sorted({*self.rejects, *other.rejects})
        return type(self)(
            documents=self.documents + other.documents,
            embedded=self.embedded + other.embedded,
            rows=self.rows + other.rows,
            rejects={one: self.rejects.get(one, 0) + other.rejects.get(one, 0) for one in reasons},
            first_rejects={
                one: _first(self.first_rejects.get(one, ()) + other.first_rejects.get(one, ()))
                for one in reasons
            },
            nulled=add_nulled((*self.nulled, *other.nulled)),
        )

    def examples(self, read: Callable[[str], Sequence[Reject]]) -> dict[str, tuple[Reject, ...]]:
        """Returns the first rejects of each reason.

        Args:
            read: Reads the rejects of a block.
        """
        blocks = {block for found in self.first_rejects.values() for block, _ in found}
        rejects = {block: read(block) for block in sorted(blocks)}
        return {
            reason: tuple(
                reject for block, _ in found for reject in rejects[block] if reject.reason == reason
            )[:MOST_EXAMPLES]
            for reason, found in self.first_rejects.items()
        }


def _reasons(rejects: Sequence[Reject]) -> dict[str, int]:
    return dict(sorted(Counter(reject.reason for reject in rejects).items()))


def _in_block(block_id: str, reasons: dict[str, int]) -> dict[str, tuple[tuple[str, int], ...]]:
    return {reason: ((block_id, rejects),) for reason, rejects in reasons.items()}


def _first(blocks: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """Keeps the first blocks, up to the one with the last example."""
    known = 0
    for place, (_, rejects) in enumerate(blocks):
        if known >= MOST_EXAMPLES:
            return blocks[:place]
        known += rejects
    return blocks


@dataclass(frozen=True)
class Check:
    """Two counts that must be the same.

    Attributes:
        name: What is compared.
        expected: What the commit protocol says.
        found: What was measured.
        ok: Whether they are the same.
    """

    name: str
    expected: int
    found: int
    ok: bool


@dataclass(frozen=True)
class Counts:
    """Documents and rows.

    Attributes:
        documents: Documents read.
        embedded: Those that became rows.
        rejected: The others.
        rows: Rows written.
        checks: What must hold.
        reconciled: Whether all of it holds.
        lines: Of text, JSONL, CSV and TSV files: all ``lines``, those ``blank``, of ``headers``
            and ``continued`` from the line before, and those that ``records`` begin with; or None.
    """

    documents: int
    embedded: int
    rejected: int
    rows: int
    checks: list[Check]
    reconciled: bool
    lines: dict[str, int] | None


@dataclass(frozen=True)
class Reason:
    """The rejects of one reason.

    Attributes:
        reason: The reason.
        count: How many there are.
        examples: The first of them: source, row_index, line, doc_id, detail, excerpt, and for a
            person ``place``.
    """

    reason: str
    count: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class Rejects:
    """Records that could not be embedded.

    Attributes:
        total: How many there are.
        share: Of all documents.
        many: Whether a reader is warned.
        reasons: The most frequent first.
    """

    total: int
    share: float
    many: bool
    reasons: list[Reason]


@dataclass(frozen=True)
class Metadata:
    """Metadata values that did not fit.

    Attributes:
        nulled: ``column``, ``count`` and first ``example`` of those that became null.
    """

    nulled: list[Nulled]


@dataclass(frozen=True)
class RecordFigures:
    """The section's entries of the report."""

    counts: Counts
    rejects: Rejects
    metadata: Metadata


def _figures(records: Records, facts: Facts) -> RecordFigures:
    return RecordFigures(
        counts=_counts(records, facts),
        rejects=_rejects(records, facts),
        metadata=Metadata(list(records.nulled)),
    )


def _counts(records: Records, facts: Facts) -> Counts:
    account, rejected = facts.account, sum(records.rejects.values())
    compared = [
        ("documents read = embedded + rejected", account.documents, records.embedded + rejected),
        ("documents read = documents of all blocks", account.documents, records.documents),
        ("rows written = rows measured", account.rows, records.rows),
        ("rejects written = rejects counted", account.rejects, rejected),
    ]
    lines = account.lines
    if lines is not None and lines.lines:
        name = "lines in = records + blanks + headers + continued"
        compared.append((name, lines.lines, lines.accounted))
    checks = [Check(name, expected, found, expected == found) for name, expected, found in compared]
    return Counts(
        documents=account.documents,
        embedded=records.embedded,
        rejected=rejected,
        rows=records.rows,
        checks=checks,
        reconciled=all(check.ok for check in checks),
        lines=asdict(lines) if lines is not None and lines.lines else None,
    )


def _rejects(records: Records, facts: Facts) -> Rejects:
    total = sum(records.rejects.values())
    by_count = sorted(records.rejects.items(), key=lambda item: (-item[1], item[0]))
    rejected = share(total, records.documents)
    return Rejects(
        total=total,
        share=rejected,
        many=rejected >= MANY_REJECTS or _DAMAGED_FILE in records.rejects,
        reasons=[
            Reason(
                reason,
                number,
                [
                    {**asdict(one), "place": facts.place(one.source, one.row_index, one.line)}
                    for one in facts.examples.get(reason, ())
                ],
            )
            for reason, number in by_count
        ],
    )


def _findings(figures: RecordFigures, facts: Facts) -> Iterator[Finding]:
    yield from _trial(facts.dataset)
    yield from _accounting(figures.counts, figures.rejects)
    yield from _nulled(figures.metadata)


def _trial(dataset: Mapping[str, Any]) -> Iterator[Finding]:
    if dataset.get("trial") is not None:
        yield Finding(
            level="warning",
            text=f"A trial: no more than the first {noun(dataset['trial'], 'document')} of the "
            "inputs was read, and LATEST does not name this version.",
        )


def _accounting(counts: Counts, rejects: Rejects) -> Iterator[Finding]:
    for check in counts.checks:
        if not check.ok:
            yield Finding(
                level="error",
                text=f"The accounts do not add up: {check.name} should give "
                f"{count(check.expected)} and gives {count(check.found)}. "
                "Do not use this version; validate it and build it anew.",
            )
    if not counts.documents:
        yield Finding(level="warning", text="The inputs hold no document.")
    elif not counts.rows:
        yield Finding(
            level="error",
            text="Not one document could be embedded; mend what the rejects say and run again.",
        )
    reasons = [one for one in rejects.reasons if one.reason != _DAMAGED_FILE]
    damages = sum(one.count for one in rejects.reasons if one.reason == _DAMAGED_FILE)
    if damages:
        yield Finding(
            level="warning",
            text=f"Damage broke off the reading of an input {noun(damages, 'time')}, and the rest "
            "of each such file is missing: a loss of unknown size, unless its reject says that "
            "only garbage follows. Restore the files and build the version anew.",
        )
    lost = sum(one.count for one in reasons)
    if lost:
        part = lost / counts.documents
        yield Finding(
            level="warning" if part >= MANY_REJECTS else "note",
            text=f"{noun(lost, 'document')} ({percent(part)}) could not be "
            f"embedded, most often for {reasons[0].reason} ({count(reasons[0].count)}).",
        )


def _nulled(metadata: Metadata) -> Iterator[Finding]:
    for nulled in metadata.nulled:
        one = nulled.count == 1
        yield Finding(
            level="warning",
            text=f"{noun(nulled.count, 'value')} of the metadata column {nulled.column!r} "
            f"{'does' if one else 'do'} not fit its type and became null; the "
            f"{'document is' if one else 'documents are'} there all the same. The first is "
            f"{nulled.example}; --metadata-columns {nulled.column}:string keeps them all.",
        )


SECTION = Section(__file__, Records, _figures, _findings)
