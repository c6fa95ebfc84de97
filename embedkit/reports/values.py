"""Rows told apart by their input file and by the values of their metadata, few enough to count."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.vectors import label_columns

SOURCE = "source"

OTHERS = "*"
"""The key of all rows whose values are not told apart."""

LEAST_SIZE = 20
"""Rows or records that a value has at least to be compared with the rest."""

SHOWN = 10
"""Values of a column that a report shows."""

VALUES_OF_BLOCK = 64
"""Values of a column in one block, from more of which on none are told apart."""

LONGEST_VALUE = 200
"""Characters of the longest value that is told apart."""

_MOST_VALUES = 4096

_NULL = "0"
_VALUE = "="

_Counts = TypeVar("_Counts")


@dataclass(frozen=True, eq=False)
class Coded:
    """The values of one column of a block.

    Attributes:
        keys: ``=`` and the value, ``0`` for null, ``*`` for all that are not told apart; each once.
        codes: The place among them of each row's, int64, shape (rows,).
    """

    keys: tuple[str, ...]
    codes: NDArray[np.int64]


def grouping_columns(schema: pa.Schema) -> list[str]:
    """Returns the columns whose values may be few: the source, and labels."""
    return [SOURCE, *label_columns(schema)]


def coded(column: pa.Array, most: int = VALUES_OF_BLOCK) -> Coded:
    """Tells the values of a column apart.

    Args:
        column: The values.
        most: How many different ones may be told apart; of more, none are.
    """
    encoded = column.cast(pa.string()).dictionary_encode()
    if len(encoded.dictionary) > most:
        return Coded((OTHERS,), np.zeros(len(column), np.int64))
    keys = [*map(key_of, encoded.dictionary.to_pylist()), _NULL]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    codes = encoded.indices.fill_null(len(keys) - 1).to_numpy()
    return Coded(tuple(places), np.array([places[key] for key in keys], np.int64)[codes])


def key_of(value: str) -> str:
    """Returns the key of a value."""
    return OTHERS if len(value) > LONGEST_VALUE else _VALUE + value


def value_of(key: str) -> str | None:
    """Returns the value of a key that is not ``*``; None for null."""
    return None if key == _NULL else key.removeprefix(_VALUE)


def merged(
    ours: Mapping[str, _Counts],
    theirs: Mapping[str, _Counts],
    plus: Callable[[_Counts, _Counts], _Counts],
    most: int = _MOST_VALUES,
) -> dict[str, _Counts]:
    """Adds what is counted of the values of a column.

    Of very many values those are kept whose hashes are the least: whatever the order in which
    blocks are added, the same ones, with all of their rows.

    Args:
        ours: The counts by the keys of values.
        theirs: Those of other blocks.
        plus: Adds two counts.
        most: Values that are told apart at most; 4,096 at most.
    """
    found = dict(ours)

    def add(key: str, counts: _Counts) -> None:
        found[key] = plus(found[key], counts) if key in found else counts

    for key, counts in theirs.items():
        add(key, counts)
    told = [key for key in found if key.startswith(_VALUE)]
    most = min(most, _MOST_VALUES)
    if len(told) > most:
        for key in sorted(told, key=_hash)[most:]:
            add(OTHERS, found.pop(key))
    return found


def summed(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, int]:
    """Adds counts by their names, which come sorted."""
    return {name: ours.get(name, 0) + theirs.get(name, 0) for name in sorted({*ours, *theirs})}


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass(frozen=True)
class RowsByKind:
    """Rows by what kind they are, such as by their language, of a block or of many.

    Attributes:
        rows: All rows, by the name of their kind.
        by_column: Rows by the values of some columns, see ``merged``.
    """

    rows: dict[str, int] = field(default_factory=dict)
    by_column: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        ours, theirs = self.by_column, other.by_column
        return type(self)(
            summed(self.rows, other.rows),
            {
                name: merged(ours.get(name, {}), theirs.get(name, {}), summed)
                for name in sorted({*ours, *theirs})
            },
        )

    def columns(self) -> list[str]:
        """Returns the columns whose values are told apart, the source first."""
        return sorted(self.by_column, key=lambda name: (name != SOURCE, name))
