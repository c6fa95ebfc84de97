"""Committed blocks to a complete version."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import apache_beam as beam

from embedkit.reports.account import RunAccount
from embedkit.transforms.blocks import BlockTransform


@dataclass
class CompleteVersion(BlockTransform):
    """CommitRecords -> the one RunAccount of their version, which is then complete.

    It waits for every commit, of which there may be none, and then completes the version once,
    whether its bundle runs once, twice, or twice at once.

    Attributes:
        complete: Completes the version, given the ids of its splits; picklable.
        splits: The splits of the version.
        also: A PCollection of ids of further splits, where they are not known beforehand.
    """

    complete: Callable[[Sequence[str]], RunAccount]
    splits: tuple[str, ...] = ()
    also: beam.PCollection | None = None

    def expand(self, commits: beam.PCollection) -> beam.PCollection:
        """A side input is what waits for all of another PCollection on every runner."""
        commits |= "OneWindow" >> beam.WindowInto(beam.window.GlobalWindows())
        committed = commits | "CountBlocks" >> beam.combiners.Count.Globally()
        further = () if self.also is None else (beam.pvalue.AsIter(self.also),)
        complete = partial(_complete, self.complete, self.splits)
        return (
            commits.pipeline
            | "Once" >> beam.Create([None], reshuffle=False)
            | "Complete"
            >> beam.Map(complete, beam.pvalue.AsSingleton(committed), *further).with_output_types(
                RunAccount
            )
        )


def _complete(
    complete: Callable[[Sequence[str]], RunAccount],
    splits: tuple[str, ...],
    element: None,
    committed: int,
    further: Iterable[str] = (),
) -> RunAccount:
    return complete(sorted({*splits, *further}))
