"""Which input files the rows of a part are of, in a few names however many they are."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from embedkit.formats.json_record import Count, JsonRecord

MOST_SOURCES = 8
"""Sources that a record names one by one; of more it names the first and the last."""


@dataclass(frozen=True)
class SourceRange(JsonRecord):
    """Sources that are too many to be named: all of them lie between two names.

    Attributes:
        first: The first of them in the order of their names.
        last: The last of them.
        count: How many they are.
    """

    first: str
    last: str
    count: Count


def count_sources(column: pa.Array) -> tuple[dict[str, int], SourceRange | None]:
    """Counts the rows of each source.

    Args:
        column: The source of each row.

    Returns:
        The rows by source, in the order of the names; or, of more than ``MOST_SOURCES``, none of
        them and the range they lie in.
    """
    counted = pc.value_counts(column)
    rows = dict(zip(*(values.to_pylist() for values in counted.flatten()), strict=True))
    names = sorted(rows)
    if len(names) <= MOST_SOURCES:
        return {name: rows[name] for name in names}, None
    return {}, SourceRange(names[0], names[-1], len(names))
