"""Which languages texts are in, by input file and metadata value as well.

A model knows the languages that it was trained on; a file in another one, written in the letters of
the rest, has vectors like any other, and is found for no good reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.facts import Facts
from embedkit.reports.languages import UNSURE, can_tell_languages, detector, languages_of
from embedkit.reports.phrasing import noun, percent
from embedkit.reports.section import Finding, Nothing, Section, share
from embedkit.reports.values import LEAST_SIZE, OTHERS, SHOWN, SOURCE, Coded, value_of

MOST_TEXTS = 10_000
"""Rows of the sample that are looked at, which takes some 5 s."""

FEWEST_TEXTS = 100
"""Rows from which on they are looked at: fewer can be read, and loading the model takes 0.7 s."""

_ALIKE = 0.8
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
        distinct: How many values the rows have that are told apart.
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
            frequent first.
        languages_of: How many rows of the sample were looked at.
        main_language: The most frequent one that is told; None of none.
        language_detector: What told them, with its version.
        language_groups: Columns with more than one value.
    """

    languages: dict[str, Language]
    languages_of: int
    main_language: str | None
    language_detector: str
    language_groups: list[LanguageColumn]


def _figures(statistic: Nothing, facts: Facts) -> LanguageFigures:
    examined = facts.examined
    assert examined is not None, "else the section is left out"
    beginnings = examined.usable.beginnings
    # A part of very long texts has none here.
    rows = np.flatnonzero(_known(beginnings))[:MOST_TEXTS]
    told = np.array(languages_of(beginnings[rows].tolist()), object)
    counts = Counter(told.tolist())
    main = None if _main(counts) == UNSURE else _main(counts)
    columns = sorted(examined.values, key=lambda name: (name != SOURCE, name))
    found = (_column(name, examined.values[name], rows, told) for name in columns)
    return LanguageFigures(
        languages={
            code: Language(name_of(code), number, share(number, len(rows)))
            for code, number in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        },
        languages_of=len(rows),
        main_language=main,
        language_detector=detector(),
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


def _column(
    column: str, values: Coded, rows: NDArray[np.int64], told: NDArray[np.object_]
) -> LanguageColumn:
    codes = values.codes[rows]
    by_key = {
        values.keys[code]: Counter(told[codes == code].tolist())
        for code in np.unique(codes).tolist()
    }
    whole = sum(by_key.values(), Counter[str]())
    main = _main(whole)
    by_size = sorted(by_key.keys() - {OTHERS}, key=lambda key: (-by_key[key].total(), key))
    groups = [_group(key, by_key[key], whole) for key in by_size]
    large = [one for one in groups if one.rows >= LEAST_SIZE]
    unlike = (one for one in large if one.share - one.rest >= _UNLIKE)
    others = (
        1 - share(by_key[key][main], one.rows)
        for key, one in zip(by_size, groups, strict=True)
        if one.rows >= LEAST_SIZE
    )
    return LanguageColumn(
        column=column,
        distinct=len(by_size),
        largest=groups[:SHOWN],
        worst=sorted(unlike, key=lambda one: (one.rest - one.share, one.value or ""))[:SHOWN],
        worst_other_share=max(others, default=None),
    )


def _group(key: str, counts: Counter[str], whole: Counter[str]) -> LanguageGroup:
    language, rows = _most(counts), counts.total()
    return LanguageGroup(
        value=value_of(key),
        rows=rows,
        language=language,
        name=name_of(language),
        share=share(counts[language], rows),
        rest=share(whole[language] - counts[language], whole.total() - rows),
    )


def _findings(figures: LanguageFigures, facts: Facts) -> Iterator[Finding]:
    if figures.main_language is None:
        return
    main = figures.languages[figures.main_language]
    if main.share < _ALIKE:
        # Where texts are in many languages, each of them is unlike the others.
        return
    for column in figures.language_groups:
        for group in column.worst[:_FINDINGS_OF_COLUMN]:
            value = "null" if group.value is None else repr(group.value)
            said = (
                f"{column.column} {value} ({noun(group.rows, 'sampled row')}) is unlike the others"
            )
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


def _applies(facts: Facts) -> bool:
    examined = facts.examined
    return (
        examined is not None
        and facts.has_examined_vectors
        and can_tell_languages()
        and int(_known(examined.usable.beginnings).sum()) >= FEWEST_TEXTS
    )


def _known(beginnings: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.array([text is not None for text in beginnings], np.bool_)


SECTION = Section(__file__, Nothing, _figures, _findings, columns=("embedding",), applies=_applies)
