"""The blocks of a version read by many workers, each some of them, before one completes it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.committed import committed_blocks
from embedkit.dataset.finalize import Totals, runs_of, totals_of
from embedkit.dataset.version import Version, block_of
from embedkit.flow.gather import Gathered, read_blocks
from embedkit.flow.large_documents import reject_whole_documents
from embedkit.flow.prepare import Draft
from embedkit.hashes.repeats import RepeatedHashes, in_ranges, range_count
from embedkit.reports.statistics import Statistics

_ROWS_OF_A_BLOCK = 8192
_PLACES_OF_A_RUN = 1 << 32

PlacedHashes = tuple[NDArray[np.uint64], NDArray[np.int64]]
"""Hashes of texts, and the place of the row of each: ascending in the order of rows, no more."""


@dataclass(frozen=True)
class Run:
    """Consecutive blocks, which one worker reads.

    Attributes:
        number: How many runs are before it.
        blocks: The blocks.
        ranges: Into how many ranges the hashes of their texts are parted.
    """

    number: int
    blocks: tuple[str, ...]
    ranges: int


@dataclass(frozen=True, eq=False)
class RunSurvey:
    """What the blocks of one run say.

    Attributes:
        number: The run.
        totals: What their commit records add up to.
        statistics: Their statistics.
    """

    number: int
    totals: Totals
    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Survey:
    """What all blocks of a version say.

    Attributes:
        runs: What those of each run say.
        repeated: The hashes of texts that more than one row has; their places are those that
            ``read_run`` gave.
    """

    runs: Sequence[RunSurvey] = ()
    repeated: RepeatedHashes = field(default_factory=RepeatedHashes)

    @property
    def totals(self) -> Totals:
        """What all commit records add up to."""
        totals = Totals()
        for run in self._ordered():
            totals.add(run.totals)
        return totals

    def gathered(self) -> Gathered:
        """Returns the statistics of all blocks, and repeated hashes by the row of the first."""
        statistics = sum((run.statistics for run in self._ordered()), Statistics.empty())
        rows = np.cumsum([0, *(run.totals.counts["rows"] for run in self._ordered())])
        top = tuple(
            replace(
                one, first=int(rows[one.first // _PLACES_OF_A_RUN]) + one.first % _PLACES_OF_A_RUN
            )
            for one in self.repeated.top
        )
        return Gathered(statistics, replace(self.repeated, top=top))

    def _ordered(self) -> list[RunSurvey]:
        return sorted(self.runs, key=lambda run: run.number)


def find_runs(draft: Draft) -> Iterator[Run]:
    """Yields the runs of a version's blocks; none of one that is complete.

    Documents of several blocks are settled first, as runs may part them.

    Raises:
        IntegrityError: A file is damaged.
        StoreError: The store failed; the same call again is safe.
    """
    version = draft.version
    if version.is_complete():
        return
    blocks = committed_blocks(version)
    if draft.records.has_many_rows:
        reject_whole_documents(version, blocks)
    ranges = range_count(len(blocks) * _ROWS_OF_A_BLOCK)
    for number, run in enumerate(runs_of(blocks)):
        yield Run(number, tuple(run), ranges)


def read_run(version: Version, run: Run) -> tuple[RunSurvey, list[tuple[int, PlacedHashes]]]:
    """Reads the blocks of a run.

    Returns:
        What they say, and the hashes of their texts by range.

    Raises:
        IntegrityError: A record, sidecar or part is damaged.
        StoreError: The store failed.
    """
    totals = totals_of(version, run.blocks)
    parts = {block_of(part.path): part for part in totals.parts}
    statistics, hashes = read_blocks(version, [(block, parts.get(block)) for block in run.blocks])
    start = run.number * _PLACES_OF_A_RUN
    placed = [
        (number, (found, places)) for number, found, places in in_ranges(hashes, start, run.ranges)
    ]
    return RunSurvey(run.number, totals, statistics), placed


def repeated_among(found: Iterable[PlacedHashes]) -> RepeatedHashes:
    """Finds which hashes of one range occur more than once, in all runs together."""
    arrays = list(found)
    return RepeatedHashes.of(
        np.concatenate([hashes for hashes, _ in arrays]),
        np.concatenate([places for _, places in arrays]),
    )
