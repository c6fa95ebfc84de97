"""Files of pairs of texts, each with the score that people gave it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.search.evaluate.records import json_records, rows_of_table

USUAL_COLUMNS = (
    ("sentence1", "text1", "s1", "sentence_1"),
    ("sentence2", "text2", "s2", "sentence_2"),
    ("score", "similarity_score", "similarity", "label"),
)
"""Names of the two texts and the score, the usual ones first."""

_LEAST = 3
_TABLES = {".csv": (",", True), ".tsv": ("\t", False)}


@dataclass(frozen=True)
class ScoredPairs:
    """Pairs of texts with scores.

    Attributes:
        path: Their file.
        texts: The first text of every pair, then the second of every pair.
        scores: A higher one says that two texts mean more of the same, float64, shape (pairs,).
        places: Where each pair stands, for a person.
    """

    path: Path
    texts: tuple[str, ...]
    scores: NDArray[np.float64]
    places: tuple[str, ...]


def read_pairs(path: Path, columns: Sequence[str] = ()) -> ScoredPairs:
    """Reads pairs from a CSV, TSV or JSONL file.

    A table of three columns without a header is taken as well, where the third field of its first
    line is a number.

    Args:
        path: The file, in UTF-8.
        columns: Names of the columns of the two texts and of the score, in this order; one of the
            usual names each unless given.

    Raises:
        InputError: The file cannot be read, lacks a column, has fewer than three pairs, a score
            that is no finite number, or one and the same score for all.
    """
    first: list[str] = []
    second: list[str] = []
    scores: list[float] = []
    places: list[str] = []
    for place, (left, right, score) in _records(path, columns):
        for text in (left, right):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{place}: a pair without its two texts; mend or remove it")
        first.append(left)
        second.append(right)
        scores.append(_score(score, place))
        places.append(place)
    if len(scores) < _LEAST:
        raise InputError(f"{path}: {len(scores)} pairs, expected at least {_LEAST}; give more")
    if min(scores) == max(scores):
        raise InputError(
            f"{path}: every score is {scores[0]:g}, with which nothing correlates; give scores "
            "that differ"
        )
    return ScoredPairs(path, (*first, *second), np.array(scores), tuple(places))


def _score(value: Any, place: str) -> float:
    try:
        score = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if not math.isfinite(score):
        raise InputError(f"{place}: score {value!r} is no finite number; mend or remove the pair")
    return score


def _records(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        for place, record in json_records(path):
            names = _names(list(record), columns, place)
            yield place, [record[name] for name in names]
        return
    if suffix not in _TABLES:
        raise InputError(f"{path}: pairs are read from .csv, .tsv and .jsonl; rename or convert it")
    rows = rows_of_table(path, *_TABLES[suffix])
    start = next(rows, None)
    if start is None:
        return
    place, header = start
    if not columns and _is_row(header):
        yield place, list(header)
        wanted = [0, 1, 2]
    else:
        wanted = [header.index(name) for name in _names(header, columns, place)]
    for place, row in rows:
        if len(row) != len(header):
            raise InputError(f"{place}: {len(row)} fields, expected {len(header)}; mend it")
        yield place, [row[number] for number in wanted]


def _is_row(row: Sequence[str]) -> bool:
    try:
        return len(row) == len(USUAL_COLUMNS) and bool(str(float(row[-1])))
    except ValueError:
        return False


def _names(there: Sequence[str], columns: Sequence[str], place: str) -> list[str]:
    names = []
    for number, usual in enumerate(USUAL_COLUMNS):
        wanted = columns[number : number + 1] or usual
        name = next((one for one in wanted if one in there), None)
        if name is None:
            raise InputError(
                f"{place}: no column {' or '.join(wanted)} among {', '.join(there)}; name the "
                "two texts and the score by --sts-columns, as sentence1,sentence2,score"
            )
        names.append(name)
    return names
