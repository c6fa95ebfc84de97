"""What is unlike the rest: rows and rejects by input file and by metadata value.

A bad file among many hardly moves the figures of all rows; here it stands by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.records import UNKNOWN_FIELD, Reject, counts_unknown
from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import count, percent
from embedkit.reports.section import Finding, Section, share
from embedkit.reports.values import (
    LEAST_SIZE,
    OTHERS,
    SHOWN,
    SOURCE,
    VALUES_OF_BLOCK,
    Coded,
    key_of,
    merged,
    value_of,
)

SHORT_CHARACTERS = 3
"""Characters that a text has at most which says next to nothing."""

_UNLIKE = 0.05
_FAR_UNLIKE = 0.2
_FINDINGS_OF_COLUMN = 3


class Tally(NamedTuple):
    """Counts of what has one value.

    Attributes:
        rows: Rows.
        documents: Documents that these are of.
        rejects: Records that could not be embedded; known by source alone.
        truncated: Rows longer than the model sees.
        tokens: Tokens that the model saw.
        unknown: Those of them that stand for unknown text, where these are counted.
        short: Rows of hardly any characters.
    """

    rows: int = 0
    documents: int = 0
    rejects: int = 0
    truncated: int = 0
    tokens: int = 0
    unknown: int = 0
    short: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Returns the counts of both."""
        return Tally(*(one + more for one, more in zip(self, other, strict=True)))

    def minus(self, other: "Tally") -> "Tally":
        """Returns the counts of what is not the other."""
        return Tally(*(one - less for one, less in zip(self, other, strict=True)))


Tallies = dict[str, Tally]


@dataclass(frozen=True)
class Groups:
    """Rows and rejects by the values of some columns.

    Of a column with very many values those are kept whose hashes are the least: whatever the order
    in which blocks are added, the same ones, with all of their rows.

    Attributes:
        by_column: For each column the tally of each value: ``=`` and the value, ``0`` for null,
            ``*`` for all that are not told apart.
    """

    by_column: dict[str, Tallies] = field(default_factory=dict)

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        counts = _counts(measured.block.rows, measured.max_tokens)
        by_column = {name: _tallies(values, counts) for name, values in measured.values.items()}
        return cls(by_column).with_rejects(measured.block.rejects)

    @classmethod
    def of_rejects(cls, rejects: Sequence[Reject]) -> Self:
        """Returns the statistic of a block without rows."""
        return cls().with_rejects(rejects)

    def with_rejects(self, rejects: Sequence[Reject]) -> Self:
        """Returns the statistic with a block's rejects, which have a source alone."""
        sources = dict.fromkeys(reject.source for reject in rejects)
        found: Tallies = {}
        told = len(sources) <= VALUES_OF_BLOCK
        for reject in rejects:
            key = key_of(reject.source) if told else OTHERS
            found[key] = found.get(key, Tally()).plus(Tally(rejects=1))
        return self + type(self)({SOURCE: found}) if found else self

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        both = {**self.by_column, **other.by_column}
        return type(self)(
            {
                name: merged(
                    self.by_column.get(name, {}), other.by_column.get(name, {}), Tally.plus
                )
                for name in both
            }
        )


def _counts(rows: pa.RecordBatch, max_tokens: int) -> NDArray[np.int64]:
    """Returns the counts of each row, as in a ``Tally``, int64, shape (7, rows)."""

    def numbers(name: str) -> NDArray[np.int64]:
        found: NDArray[np.int64] = pc.cast(rows.column(name), pa.int64()).to_numpy()
        return found

    n = rows.num_rows
    unknown = numbers(UNKNOWN_FIELD.name) if counts_unknown(rows.schema) else np.zeros(n, np.int64)
    characters = numbers("char_end") - numbers("char_start")
    return np.stack(
        [
            np.ones(n, np.int64),
            numbers("chunk_index") == 0,
            np.zeros(n, np.int64),
            numbers("truncated"),
            np.minimum(numbers("n_tokens"), max_tokens),
            unknown,
            characters <= SHORT_CHARACTERS,
        ]
    )


def _tallies(values: Coded, counts: NDArray[np.int64]) -> Tallies:
    sums = np.zeros((len(values.keys), len(counts)), np.int64)
    np.add.at(sums, values.codes, counts.T)
    tallies = zip(values.keys, sums.tolist(), strict=True)
    return {key: Tally(*tally) for key, tally in tallies if tally[0]}


@dataclass(frozen=True)
class Group:
    """Rows and rejects of one value.

    Attributes:
        value: The value; None where it is null.
        rows: Rows.
        rejects: Records that could not be embedded; None of metadata, which these have not.
        reject_share: Their share of the records.
        truncated_share: Share of rows longer than the model sees.
        unknown_share: Share of tokens that stand for unknown text; None where nobody counted.
        short_share: Share of rows of at most three characters.
        mean_tokens: Tokens of a row that the model saw.
    """

    value: str | None
    rows: int
    rejects: int | None
    reject_share: float | None
    truncated_share: float
    unknown_share: float | None
    short_share: float
    mean_tokens: float


@dataclass(frozen=True)
class Unlike(Group):
    """A group that is worse than the rest.

    Attributes:
        figure: The share by which it is most above the rest, such as ``reject_share``.
        rest: That share of all others.
    """

    figure: str
    rest: float


@dataclass(frozen=True)
class Column:
    """The groups of one column.

    Attributes:
        column: Its name: ``source``, or a metadata column.
        distinct: How many values are told apart.
        others: Rows of values that are not, as there are too many.
        largest: The ten values with most rows.
        worst: At most ten values that are worse than the rest, the worst first: a share of theirs
            is at least 0.05 above that of all others.
        worst_reject_share: The highest of a value with at least 20 rows or rejects, None of none.
        worst_truncated_share: The same of the rows that were truncated.
        worst_unknown_share: The same of the tokens that stand for unknown text.
        worst_short_share: The same of the rows of at most three characters.
    """

    column: str
    distinct: int
    others: int
    largest: list[Group]
    worst: list[Unlike]
    worst_reject_share: float | None
    worst_truncated_share: float | None
    worst_unknown_share: float | None
    worst_short_share: float | None


@dataclass(frozen=True)
class GroupFigures:
    """The section's entries of the report: columns with more than one value."""

    groups: list[Column]


_SHARES = {
    "reject_share": "of its records could not be embedded",
    "truncated_share": "of its rows are longer than the model sees",
    "unknown_share": "of its tokens are not in the model's vocabulary",
    "short_share": f"of its rows have at most {SHORT_CHARACTERS} characters",
}


def _figures(statistic: Groups, facts: Facts) -> GroupFigures:
    counts_them = "unknown" in facts.dataset
    columns = sorted(statistic.by_column, key=lambda name: (name != SOURCE, name))
    found = (_column(name, statistic.by_column[name], counts_them) for name in columns)
    return GroupFigures([one for one in found if one.distinct > 1])


def _column(name: str, tallies: Mapping[str, Tally], counts_unknown: bool) -> Column:
    def group(key: str, tally: Tally) -> Group:
        return _group(key, tally, name == SOURCE, counts_unknown)

    told = {key: tally for key, tally in tallies.items() if key != OTHERS}
    by_size = sorted(told, key=lambda key: (-told[key].rows, key))
    large = [key for key in by_size if told[key].rows + told[key].rejects >= LEAST_SIZE]
    whole = Tally()
    for tally in tallies.values():
        whole = whole.plus(tally)
    groups = [group(key, told[key]) for key in large]
    held = (
        _held(one, group(key, whole.minus(told[key])))
        for key, one in zip(large, groups, strict=True)
    )
    worst = sorted(
        (one for one in held if _excess(one) >= _UNLIKE),
        key=lambda one: (-_excess(one), one.value or ""),
    )
    return Column(
        column=name,
        distinct=len(told),
        others=tallies.get(OTHERS, Tally()).rows,
        largest=[group(key, told[key]) for key in by_size[:SHOWN]],
        worst=worst[:SHOWN],
        worst_reject_share=_most(one.reject_share for one in groups),
        worst_truncated_share=_most(one.truncated_share for one in groups),
        worst_unknown_share=_most(one.unknown_share for one in groups),
        worst_short_share=_most(one.short_share for one in groups),
    )


def _group(key: str, tally: Tally, has_rejects: bool, counts_unknown: bool) -> Group:
    records = tally.documents + tally.rejects
    return Group(
        value=value_of(key),
        rows=tally.rows,
        rejects=tally.rejects if has_rejects else None,
        reject_share=share(tally.rejects, records) if has_rejects else None,
        truncated_share=share(tally.truncated, tally.rows),
        unknown_share=share(tally.unknown, tally.tokens) if counts_unknown else None,
        short_share=share(tally.short, tally.rows),
        mean_tokens=share(tally.tokens, tally.rows),
    )


def _held(group: Group, rest: Group) -> Unlike:
    """Returns a group with the share by which it is most above the rest."""
    ours, theirs = ({name: getattr(one, name) or 0.0 for name in _SHARES} for one in (group, rest))
    figure = max(_SHARES, key=lambda name: ours[name] - theirs[name])
    return Unlike(**vars(group), figure=figure, rest=theirs[figure])


def _excess(group: Unlike) -> float:
    found: float = (getattr(group, group.figure) or 0.0) - group.rest
    return found


def _most(shares: Iterable[float | None]) -> float | None:
    return max((one for one in shares if one is not None), default=None)


def _findings(figures: GroupFigures, facts: Facts) -> Iterator[Finding]:
    for column in figures.groups:
        for group in column.worst[:_FINDINGS_OF_COLUMN]:
            if _excess(group) < _FAR_UNLIKE:
                continue
            value = "null" if group.value is None else repr(group.value)
            size = count(group.rows + (group.rejects or 0))
            yield Finding(
                level="warning",
                text=f"{column.column} {value} ({size} records) is unlike the others: "
                f"{percent(getattr(group, group.figure))} {_SHARES[group.figure]}, "
                f"{percent(group.rest)} of all others. Look at it before searches do.",
            )


SECTION = Section(__file__, Groups, _figures, _findings)
