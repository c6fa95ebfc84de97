"""Committed blocks to a complete version."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from embedkit.dataset.version import Version
from embedkit.flow.prepare import Draft
from embedkit.flow.survey import (
    PlacedHashes,
    Run,
    RunSurvey,
    Survey,
    find_runs,
    read_run,
    repeated_among,
)
from embedkit.hashes.repeats import RepeatedHashes
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
        draft: The version, whose records, statistics and text hashes all workers then read, and
            ``complete`` gets the survey of them as well; with None the one that completes it does.
    """

    complete: Callable[..., RunAccount]
    splits: tuple[str, ...] = ()
    also: beam.PCollection | None = None
    draft: Draft | None = None

    def expand(self, commits: beam.PCollection) -> beam.PCollection:
        """A side input is what waits for all of another PCollection on every runner."""
        commits |= "OneWindow" >> beam.WindowInto(beam.window.GlobalWindows())
        committed = commits | "CountBlocks" >> beam.combiners.Count.Globally()
        further = () if self.also is None else (beam.pvalue.AsIter(self.also),)
        waited = (beam.pvalue.AsSingleton(committed), *further)
        once = commits.pipeline | "Once" >> beam.Create([None], reshuffle=False)
        inputs: tuple[Any, ...] = waited
        step: type[beam.DoFn] = _Complete
        if self.draft is not None:
            runs = once | "FindRuns" >> beam.ParDo(_FindRuns(self.draft), *waited)
            surveyed = runs | "Survey" >> _Survey(self.draft.version)
            inputs = (*surveyed, *further)
            step = _CompleteSurveyed
        complete = beam.ParDo(step(self.complete, self.splits), *inputs)
        return once | "Complete" >> complete.with_output_types(RunAccount)


class _Complete(beam.DoFn):
    """Waits for every commit, and completes the version."""

    def __init__(self, complete: Callable[..., RunAccount], splits: tuple[str, ...]) -> None:
        self._complete = complete
        self._splits = splits

    def process(
        self, element: None, committed: int, further: Iterable[str] = ()
    ) -> Iterator[RunAccount]:
        yield self._complete(self._with(further))

    def _with(self, further: Iterable[str]) -> Sequence[str]:
        return sorted({*self._splits, *further}, key=int)


class _CompleteSurveyed(_Complete):
    """Completes the version with the survey of its records."""

    def process(  # type: ignore[override]
        self,
        element: None,
        runs: list[RunSurvey],
        repeated: RepeatedHashes,
        further: Iterable[str] = (),
    ) -> Iterator[RunAccount]:
        yield self._complete(self._with(further), Survey(runs, repeated))


class _FindRuns(beam.DoFn):
    """Waits for every commit, and yields the runs of the version's blocks."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def process(self, element: None, committed: int, further: Iterable[str] = ()) -> Iterator[Run]:
        yield from find_runs(self._draft)


@dataclass
class _Survey(beam.PTransform):
    """Runs -> what each says and which text hashes repeat, as two side inputs."""

    version: Version

    def expand(self, runs: beam.PCollection) -> tuple[Any, Any]:
        read = (
            runs
            | "Spread" >> beam.Reshuffle()
            | "ReadRun" >> beam.ParDo(_ReadRun(self.version)).with_outputs("hashes", main="said")
        )
        said = read.said | "Gather" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
        repeated = (
            read.hashes
            | "ByRange" >> beam.GroupByKey()
            | "FindRepeated" >> beam.MapTuple(_repeated_in)
            | "AddUp" >> beam.CombineGlobally(_add_up)
        )
        return beam.pvalue.AsSingleton(said), beam.pvalue.AsSingleton(repeated)


class _ReadRun(beam.DoFn):
    """Reads a run; the hashes of its texts go by range to the output ``hashes``."""

    def __init__(self, version: Version) -> None:
        self._version = version

    def process(self, run: Run) -> Iterator[Any]:
        said, hashes = read_run(self._version, run)
        yield said
        for by_range in hashes:
            yield beam.pvalue.TaggedOutput("hashes", by_range)


def _repeated_in(number: int, found: Iterable[PlacedHashes]) -> RepeatedHashes:
    return repeated_among(found)


def _add_up(found: Iterable[RepeatedHashes]) -> RepeatedHashes:
    return sum(found, RepeatedHashes())
