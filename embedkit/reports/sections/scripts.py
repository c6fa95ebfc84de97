"""Which scripts texts are written in, by input file and metadata value as well.

A file in another alphabet than the rest, or read in another encoding than it was written in, gets
vectors like any other, which searches then find for no good reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import noun, percent
from embedkit.reports.section import Finding, Section, share
from embedkit.reports.unicode_scripts import MIXED, NO_LETTERS, Written, written_in
from embedkit.reports.values import (
    LEAST_SIZE,
    OTHERS,
    SHOWN,
    Coded,
    RowsByKind,
    value_of,
)

_FAULTY = "faulty"
_ALIKE = 0.9
_UNLIKE = 0.5
_MUCH_FAULTY = 0.05
_SOME_FAULTY = 0.001
_FEW_LETTERS = 0.05
_FINDINGS_OF_COLUMN = 3

_NAMES = {
    "Arab": "Arabic", "Armn": "Armenian", "Beng": "Bengali", "Cyrl": "Cyrillic",
    "Deva": "Devanagari", "Ethi": "Ethiopic", "Geor": "Georgian", "Grek": "Greek",
    "Gujr": "Gujarati", "Guru": "Gurmukhi", "Hani": "Chinese", "Hebr": "Hebrew",
    "Jpan": "Japanese", "Khmr": "Khmer", "Knda": "Kannada", "Kore": "Korean", "Laoo": "Lao",
    "Latn": "Latin", "Mlym": "Malayalam", "Mong": "Mongolian", "Mymr": "Myanmar", "Orya": "Oriya",
    "Sinh": "Sinhala", "Syrc": "Syriac", "Taml": "Tamil", "Telu": "Telugu", "Thaa": "Thaana",
    "Thai": "Thai", "Tibt": "Tibetan", MIXED: "several scripts", NO_LETTERS: "no letters",
}  # fmt: skip
"""What a person calls scripts; of the rest, the code of ISO 15924 is shown."""

Counts = dict[str, int]
"""Rows by the script of their text, and those that are ``faulty``, which have a script as well."""


class Scripts(RowsByKind):
    """Rows by the script of their text."""

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block; of rows without texts nothing."""
        block = measured.block.rows
        if not block.num_rows or "text" not in block.schema.names:
            return cls()
        written = written_in(block.column("text"))
        (rows,) = _counts(written, np.zeros(len(written.codes), np.int64), 1)
        return cls(
            rows, {name: _by_value(values, written) for name, values in measured.values.items()}
        )


def _by_value(values: Coded, written: Written) -> dict[str, Counts]:
    counts = _counts(written, values.codes, len(values.keys))
    return {key: found for key, found in zip(values.keys, counts, strict=True) if found}


def _counts(written: Written, groups: NDArray[np.int64], number: int) -> Iterator[Counts]:
    kinds = len(written.names)
    cells = np.bincount(groups * kinds + written.codes, minlength=number * kinds)
    faulty = np.bincount(groups, written.faulty, minlength=number).astype(np.int64)
    names = (*written.names, _FAULTY)
    for row in np.column_stack([cells.reshape(number, kinds), faulty]).tolist():
        yield {name: found for name, found in sorted(zip(names, row, strict=True)) if found}


@dataclass(frozen=True)
class Script:
    """Rows of one script.

    Attributes:
        name: What a person calls it.
        rows: How many there are.
        share: Of all rows.
    """

    name: str
    rows: int
    share: float


@dataclass(frozen=True)
class ScriptGroup:
    """Rows of one value.

    Attributes:
        value: The value; None where it is null.
        rows: Rows.
        script: The script that most of them have.
        name: What a person calls it.
        share: The share of its rows that have it.
        rest: The share of all other rows that have it.
        faulty_share: Share of rows with characters that no text has.
    """

    value: str | None
    rows: int
    script: str
    name: str
    share: float
    rest: float
    faulty_share: float


@dataclass(frozen=True)
class ScriptColumn:
    """The values of one column.

    Attributes:
        column: Its name: ``source``, or a metadata column.
        distinct: How many values are told apart.
        largest: The ten values with most rows.
        worst: At most ten values of 20 rows or more that are unlike the rest, the worst first:
            their script is that of half as many of the others at most, or more are faulty.
        worst_faulty_share: The highest share of faulty rows of a value with at least 20 rows.
        worst_other_share: The highest share of rows of other scripts than most rows of the version
            have, of such a value.
    """

    column: str
    distinct: int
    largest: list[ScriptGroup]
    worst: list[ScriptGroup]
    worst_faulty_share: float | None
    worst_other_share: float | None


@dataclass(frozen=True)
class ScriptFigures:
    """The section's entries of the report.

    Attributes:
        scripts: By the code of ISO 15924, ``mixed``, ``none`` (no letters) and ``faulty``
            (characters that no text has; those rows have a script as well), the most frequent
            first.
        main_script: The most frequent; None without rows.
        script_groups: Columns with more than one value.
    """

    scripts: dict[str, Script]
    main_script: str | None
    script_groups: list[ScriptColumn]


def _figures(statistic: Scripts, facts: Facts) -> ScriptFigures:
    total, main = _total(statistic.rows), _main(statistic.rows)
    by_rows = sorted(
        statistic.rows, key=lambda name: (name == _FAULTY, -statistic.rows[name], name)
    )
    found = (
        _column(name, statistic.by_column[name], statistic.rows, main)
        for name in statistic.columns()
        if main is not None
    )
    return ScriptFigures(
        scripts={
            name: Script(name_of(name), statistic.rows[name], share(statistic.rows[name], total))
            for name in by_rows
        },
        main_script=main,
        script_groups=[one for one in found if one.distinct > 1],
    )


def name_of(script: str) -> str:
    """Returns what a person calls a script."""
    return _NAMES.get(script, script)


def _total(counts: Mapping[str, int]) -> int:
    return sum(rows for name, rows in counts.items() if name != _FAULTY)


def _main(counts: Mapping[str, int]) -> str | None:
    return max((name for name in counts if name != _FAULTY), key=counts.__getitem__, default=None)


def _column(
    column: str, by_value: Mapping[str, Counts], whole: Mapping[str, int], main: str
) -> ScriptColumn:
    told = {key: counts for key, counts in by_value.items() if key != OTHERS}
    by_size = sorted(told, key=lambda key: (-_total(told[key]), key))
    groups = [_group(key, told[key], whole) for key in by_size]
    large = [one for one in groups if one.rows >= LEAST_SIZE]
    worst = sorted(
        (one for one in large if _excess(one, whole) > 0),
        key=lambda one: (-_excess(one, whole), one.value or ""),
    )
    others = (
        1 - share(told[key].get(main, 0), one.rows)
        for key, one in zip(by_size, groups, strict=True)
        if one.rows >= LEAST_SIZE
    )
    return ScriptColumn(
        column=column,
        distinct=len(told),
        largest=groups[:SHOWN],
        worst=worst[:SHOWN],
        worst_faulty_share=max((one.faulty_share for one in large), default=None),
        worst_other_share=max(others, default=None),
    )


def _group(key: str, counts: Mapping[str, int], whole: Mapping[str, int]) -> ScriptGroup:
    script, rows = _main(counts) or NO_LETTERS, _total(counts)
    return ScriptGroup(
        value=value_of(key),
        rows=rows,
        script=script,
        name=name_of(script),
        share=share(counts.get(script, 0), rows),
        rest=share(whole.get(script, 0) - counts.get(script, 0), _total(whole) - rows),
        faulty_share=share(counts.get(_FAULTY, 0), rows),
    )


def _excess(group: ScriptGroup, whole: Mapping[str, int]) -> float:
    """Returns how far a group is unlike the rest; nothing where it is not."""
    other = group.share - group.rest
    faulty = group.faulty_share - share(whole.get(_FAULTY, 0), _total(whole))
    return max(other if other >= _UNLIKE else 0.0, faulty if faulty >= _MUCH_FAULTY else 0.0)


def _findings(figures: ScriptFigures, facts: Facts) -> Iterator[Finding]:
    yield from _of_all(figures.scripts)
    main = None if figures.main_script is None else figures.scripts[figures.main_script]
    for column in figures.script_groups:
        for group in column.worst[:_FINDINGS_OF_COLUMN]:
            value = "null" if group.value is None else repr(group.value)
            said = f"{column.column} {value} ({noun(group.rows, 'row')})"
            if group.faulty_share >= _MUCH_FAULTY:
                yield Finding(
                    level="warning",
                    text=f"{percent(group.faulty_share)} of {said} have characters that no text "
                    "has: it was read in another encoding than it was written in, which "
                    "--encoding tells, or is no text.",
                )
            elif main is not None and main.share >= _ALIKE and group.name != main.name:
                # Where texts are of many scripts, each of them is unlike the others.
                yield Finding(
                    level="warning",
                    text=f"{said} is unlike the others: {percent(group.share)} of it is in "
                    f"{group.name}, {percent(group.rest)} of all others. Look at it before "
                    "searches do.",
                )


def _of_all(scripts: Mapping[str, Script]) -> Iterator[Finding]:
    faulty, bare = scripts.get(_FAULTY), scripts.get(NO_LETTERS)
    if faulty is not None and faulty.share >= _SOME_FAULTY:
        yield Finding(
            level="warning" if faulty.share >= _MUCH_FAULTY else "note",
            text=f"{noun(faulty.rows, 'row')} ({percent(faulty.share)}) have characters that no "
            "text has, as bytes that were read in another encoding than they were written in.",
        )
    if bare is not None and bare.share >= _FEW_LETTERS:
        yield Finding(
            level="note",
            text=f"{percent(bare.share)} of rows have no letter among their first characters: "
            "numbers and signs, of which most models make little.",
        )


SECTION = Section(__file__, Scripts, _figures, _findings)
