"""Which languages texts are in, by input file and metadata value as well.

A model knows the languages that it was trained on; a file in another one, written in the letters of
the rest, has vectors like any other, and is found for no good reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.reports.facts import Facts
from embedkit.reports.languages import CHARACTERS, UNSURE, can_tell_languages, languages_of
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import noun, percent
from embedkit.reports.sample import keys_of
from embedkit.reports.section import Finding, Section, share
from embedkit.reports.values import (
    LEAST_SIZE,
    OTHERS,
    SHOWN,
    Coded,
    RowsByKind,
    value_of,
)

MOST_TEXTS = 512
"""Rows of a block that are looked at, those with the smallest hash of id: it takes some 0.2 s."""

FEWEST_TEXTS = 100
"""Rows that a block has at least to be looked at, as the model takes 0.7 s to load."""

_ALIKE = 0.9
"""Share of the rows whose language is told that are of one where another is worth a warning."""

_UNLIKE = 0.5
_FINDINGS_OF_COLUMN = 3

_NAMES = {
    "af": "Afrikaans", "ar": "Arabic", "az": "Azerbaijani", "be": "Belarusian", "bg": "Bulgarian",
    "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan", "cs": "Czech", "cy": "Welsh",
    "da": "Danish", "de": "German", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "ga": "Irish", "gl": "Galician", "gu": "Gujarati", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian",
    "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "kn": "Kannada", "ko": "Korean", "la": "Latin", "lb": "Luxembourgish",
    "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam",
    "mn": "Mongolian", "mr": "Marathi", "ms": "Malay", "mt": "Maltese", "my": "Burmese",
    "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian (Nynorsk)", "no": "Norwegian", "pa": "Punjabi",
    "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian",
    "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sq": "Albanian", "sr": "Serbian",
    "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "vi": "Vietnamese", "yue": "Cantonese", "zh": "Chinese", "zu": "Zulu",
    "zxx": "no language", UNSURE: "not told",
}  # fmt: skip
"""What a person calls languages; of the rest, the code of ISO 639 is shown."""


Counts = dict[str, int]
"""Rows by the language of their text."""


class Languages(RowsByKind):
    """Rows by the language of their text, of those that were looked at."""

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block; nothing without texts or py3langid."""
        block = measured.block.rows
        if block.num_rows < FEWEST_TEXTS or "text" not in block.schema.names:
            return cls()
        if not can_tell_languages():
            return cls()
        rows = np.argsort(keys_of(block.column("id")), kind="stable")[:MOST_TEXTS]
        starts = pc.utf8_slice_codeunits(block.column("text").take(pa.array(rows)), 0, CHARACTERS)
        told = np.array(languages_of(starts.to_pylist()), object)
        by_column = {name: _by_value(one, rows, told) for name, one in measured.values.items()}
        return cls(_counts(told), by_column)


def _counts(told: NDArray[np.object_]) -> Counts:
    return dict(sorted(Counter(told.tolist()).items()))


def _by_value(
    values: Coded, rows: NDArray[np.int64], told: NDArray[np.object_]
) -> dict[str, Counts]:
    codes = values.codes[rows]
    return {values.keys[code]: _counts(told[codes == code]) for code in np.unique(codes).tolist()}


@dataclass(frozen=True)
class Language:
    """Rows of one language.

    Attributes:
        name: What a person calls it.
        rows: How many of the rows that were looked at.
        share: Of them.
    """

    name: str
    rows: int
    share: float


@dataclass(frozen=True)
class LanguageGroup:
    """Rows of one value.

    Attributes:
        value: The value; None where it is null.
        rows: Rows that were looked at.
        language: The language that most of them have; ``und`` where that of most is not told.
        name: What a person calls it.
        share: The share of its rows that have it.
        rest: The share of all other rows that have it.
    """

    value: str | None
    rows: int
    language: str
    name: str
    share: float
    rest: float


@dataclass(frozen=True)
class LanguageColumn:
    """The values of one column.

    Attributes:
        column: Its name: ``source``, or a metadata column.
        distinct: How many values are told apart.
        largest: The ten values with most rows.
        worst: At most ten values of 20 rows or more that are unlike the rest, the worst first:
            the share of their language is at least 0.5 above that of all others.
        worst_other_share: The highest share of rows of other languages than most rows of the
            version have, of a value with at least 20 rows, those among them that are not told; None
            of none.
    """

    column: str
    distinct: int
    largest: list[LanguageGroup]
    worst: list[LanguageGroup]
    worst_other_share: float | None


@dataclass(frozen=True)
class LanguageFigures:
    """The section's entries of the report.

    Attributes:
        languages: By the code of ISO 639, ``zxx`` (no language) and ``und`` (not told), the most
            frequent first; none where none were measured.
        language_rows: How many rows were looked at.
        main_language: The most frequent one that is told; None of none.
        language_groups: Columns with more than one value.
    """

    languages: dict[str, Language]
    language_rows: int
    main_language: str | None
    language_groups: list[LanguageColumn]


def _figures(statistic: Languages, facts: Facts) -> LanguageFigures:
    counts = statistic.rows
    total, main = sum(counts.values()), _main(counts)
    found = (_column(name, statistic.by_column[name], counts) for name in statistic.columns())
    return LanguageFigures(
        languages={
            code: Language(name_of(code), rows, share(rows, total))
            for code, rows in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        },
        language_rows=total,
        main_language=None if main == UNSURE else main,
        language_groups=[one for one in found if one.distinct > 1],
    )


def name_of(language: str) -> str:
    """Returns what a person calls a language."""
    return _NAMES.get(language, language)


def _most(counts: Mapping[str, int]) -> str:
    return max(sorted(counts), key=lambda code: counts[code], default=UNSURE)


def _main(counts: Mapping[str, int]) -> str:
    """Returns the most frequent language that is told, if one is."""
    return _most({code: rows for code, rows in counts.items() if code != UNSURE})


def _column(column: str, by_value: Mapping[str, Counts], whole: Counts) -> LanguageColumn:
    told = {key: counts for key, counts in by_value.items() if key != OTHERS}
    by_size = sorted(told, key=lambda key: (-sum(told[key].values()), key))
    groups = {key: _group(key, told[key], whole) for key in by_size}
    large = {key: one for key, one in groups.items() if one.rows >= LEAST_SIZE}
    unlike = (one for one in large.values() if one.share - one.rest >= _UNLIKE)
    main = _main(whole)
    others = (1 - share(told[key].get(main, 0), one.rows) for key, one in large.items())
    return LanguageColumn(
        column=column,
        distinct=len(told),
        largest=list(groups.values())[:SHOWN],
        worst=sorted(unlike, key=lambda one: (one.rest - one.share, one.value or ""))[:SHOWN],
        worst_other_share=max(others, default=None),
    )


def _group(key: str, counts: Counts, whole: Counts) -> LanguageGroup:
    language, rows = _most(counts), sum(counts.values())
    other = whole.get(language, 0) - counts.get(language, 0)
    return LanguageGroup(
        value=value_of(key),
        rows=rows,
        language=language,
        name=name_of(language),
        share=share(counts.get(language, 0), rows),
        rest=share(other, sum(whole.values()) - rows),
    )


def _findings(figures: LanguageFigures, facts: Facts) -> Iterator[Finding]:
    if figures.main_language is None:
        return
    told = sum(one.rows for code, one in figures.languages.items() if code != UNSURE)
    if figures.languages[figures.main_language].rows < _ALIKE * told:
        # Where texts are in many languages, each of them is unlike the others.
        return
    for column in figures.language_groups:
        for group in column.worst[:_FINDINGS_OF_COLUMN]:
            value = "null" if group.value is None else repr(group.value)
            said = f"{column.column} {value} ({noun(group.rows, 'row')}) is unlike the others"
            if group.language == UNSURE:
                what = "in no language that can be told"
                ask = "Is it numbers, code or single words?"
            else:
                what, ask = f"in {group.name}", "Does the model know that language?"
            yield Finding(
                level="warning",
                text=f"{said}: {percent(group.share)} of it is {what}, {percent(group.rest)} of "
                f"all others. {ask}",
            )


SECTION = Section(__file__, Languages, _figures, _findings)
