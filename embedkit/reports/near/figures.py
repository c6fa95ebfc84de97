"""What was found of near duplicates, as it is kept beside the report."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from embedkit.formats.json_record import Count, JsonRecord

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class NearRow(JsonRecord):
    """A row of a group.

    Attributes:
        id: Its id.
        source: The file that it came from.
        row_index: Its place there.
        line: Its line there, counted as ``LINE_FIELD``.
        text: Its text's first characters; None where none are shown.
    """

    id: str
    source: str
    row_index: Count
    line: int | None = None
    text: str | None = None


@dataclass(frozen=True)
class NearGroup(JsonRecord):
    """Rows that are near duplicates of each other, directly or by others of them.

    Attributes:
        size: How many rows it has.
        shown: Some of them; the one to keep comes first.
    """

    size: Count
    shown: tuple[NearRow, ...]


@dataclass(frozen=True)
class NearDuplicates(JsonRecord):
    """Near duplicates over all rows of a version.

    Attributes:
        parts_digest: Tells the parts that were read.
        asked: What was asked for: ``auto``, ``on`` or a threshold.
        threshold: Least cosine of two near duplicates.
        floor: Mean cosine of random pairs; None where there are none.
        version_rows: Rows of the version.
        groups: Groups of near duplicates; rows of equal texts are among them.
        rows: Rows in groups.
        removable: Rows that could go, so that one of each group is left.
        share: Their share of all rows.
        equal_texts: Rows that have the very text of another one.
        compared: Rows of different texts that were compared by their vectors.
        unusable: Rows left out because their vector has no direction.
        recall: Share of the pairs that a comparison with all rows finds, for some rows, that are in
            one group; None where it finds none.
        recall_pairs: How many pairs that are.
        recall_rows: For how many rows all others were looked at.
        exact: Whether every row was compared with every other, so that no pair can be lost.
        largest: The largest groups.
    """

    parts_digest: str
    asked: str
    threshold: float
    floor: float | None
    version_rows: Count
    groups: Count
    rows: Count
    removable: Count
    share: Share
    equal_texts: Count
    compared: Count
    unusable: Count
    recall: Share | None
    recall_pairs: Count
    recall_rows: Count
    exact: bool
    largest: tuple[NearGroup, ...]
