"""What a report is made from besides what was measured of blocks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.records import Reject
from embedkit.reports.account import RunAccount
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.map.table import DrawnMap
from embedkit.reports.near.figures import NearDuplicates
from embedkit.reports.nearest import Neighbours, nearest
from embedkit.reports.repeats import TextRepeats
from embedkit.reports.sample import Sample

if TYPE_CHECKING:
    # It is made of what sections are, which are made of this.
    from embedkit.reports.drift.figures import Drift

Place = Callable[[str, int, int | None], str]
"""Says for a person where a record stands, given its source, ``row_index`` and line."""


RowsAt = Callable[[Sequence[int]], Sequence[Mapping[str, Any]]]
"""Tells of rows, given their places among all: id, text, source, row_index, line, place, n_tokens.
"""

Nearest = Callable[[NDArray[np.float32], int], Neighbours]
"""Finds the so many nearest rows of each, see ``nearest``."""


def no_rows(places: Sequence[int]) -> Sequence[Mapping[str, Any]]:
    """Tells of no row, where nobody can be asked for any."""
    if places:
        raise ValueError("rows are to be shown, and nothing reads them")
    return ()


def plain_place(source: str, row_index: int, line: int | None) -> str:
    """Says where a record stands where it is not known what its place counts."""
    return f"row_index {row_index}" if line is None else f"line {line}"


@dataclass(frozen=True)
class Facts:
    """What a report is made from besides the statistics.

    Attributes:
        dataset: What the manifest says of the vectors; ``max_tokens`` must be there.
        account: What the commit protocol says was read and written, against which the statistics
            are held, and what the run measured of itself.
        sample: The rows that are looked at one by one, their lines those of their files.
        repeats: The texts that repeat, likewise.
        examples: The first rejects of each reason, likewise.
        place: Says where a record stands.
        examined: What the rows say that were read once more; None where none were.
        rows_at: Tells of single rows, to be shown.
        near_duplicates: What all rows say of near duplicates, or why nothing is known of them; None
            where it was not asked.
        nearest: Finds the neighbours of the sample's rows, or knows them.
        texts: Whether the beginnings of texts are shown, if they are known.
        map: The map that was drawn of the sample, or why none was; None where it was not asked.
        drift: How the vectors lie to those of the version published before; None where nobody
            asked.
    """

    dataset: Mapping[str, Any]
    account: RunAccount
    sample: Sample
    repeats: TextRepeats
    examples: Mapping[str, Sequence[Reject]]
    place: Place = plain_place
    examined: ExaminedRows | None = None
    rows_at: RowsAt = no_rows
    near_duplicates: NearDuplicates | str | None = None
    nearest: Nearest = nearest
    texts: bool = True
    map: DrawnMap | str | None = None
    drift: "Drift | None" = None

    @property
    def has_examined_vectors(self) -> bool:
        """Whether rows with one vector each were read once more."""
        return self.examined is not None and len(self.examined.moments.low) > 0
