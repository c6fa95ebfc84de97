"""Repeated ids found on a pipeline's own workers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np

from embedkit.config import CorpusConfig
from embedkit.corpus.duplicates import Hashes, check_repeats, find_suspects, id_hashes
from embedkit.corpus.splits import Plan, Split
from embedkit.dataset.version import Version
from embedkit.flow.check_ids import kept_hashes
from embedkit.transforms.blocks import BlockTransform

_SPLITS_OF_A_PARTITION = 4
_MOST_PARTITIONS = 256
_COUNTS = "counts"


class _Hash(beam.DoFn):
    """Splits to (partition, (split, hashes)); a hash's leading bits tell its partition."""

    def __init__(self, corpus: CorpusConfig, version: Version | None, partitions: int) -> None:
        self._corpus = corpus
        self._version = version
        self._partitions = partitions

    def process(self, numbered: tuple[int, Split]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        number, split = numbered
        if self._version is None:
            batches = id_hashes(split, self._corpus)
        else:
            batches = kept_hashes(split, self._corpus, self._version)
        for hashes in batches:
            places = (hashes >> np.uint64(32)).astype(np.int64) * self._partitions >> 32
            order = np.argsort(places, kind="stable")
            bounds = np.searchsorted(places[order], np.arange(self._partitions + 1))
            for partition in range(self._partitions):
                part = hashes[order[bounds[partition] : bounds[partition + 1]]]
                if len(part):
                    yield partition, (number, _to_bytes(part))


class _Repeats(beam.DoFn):
    """All hashes of a partition to (split, those of its hashes that occur more than once)."""

    def process(self, group: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[Any]:
        parts = [(number, _from_bytes(data)) for number, data in group[1]]
        hashes = np.concatenate([part for _, part in parts])
        numbers = np.repeat([number for number, _ in parts], [len(part) for _, part in parts])
        values, counts = np.unique(hashes, return_counts=True)
        repeated = np.isin(hashes, values[counts > 1])
        yield beam.pvalue.TaggedOutput(_COUNTS, (len(hashes) - len(values), len(hashes)))
        for number in np.unique(numbers[repeated]):
            yield int(number), _to_bytes(np.unique(hashes[repeated & (numbers == number)]))


class _LookAgain(beam.DoFn):
    """A split and hashes of it that repeat to (id, where it stands)."""

    def __init__(self, corpus: CorpusConfig) -> None:
        self._corpus = corpus

    def process(
        self, group: tuple[int, dict[str, Iterable[Any]]], allowed: None
    ) -> Iterator[tuple[bytes, tuple[int, int, str, int]]]:
        number, found = group
        hashes = [_from_bytes(data) for data in found["hashes"]]
        for split in found["split"] if hashes else ():
            suspects = find_suspects(split, self._corpus, np.unique(np.concatenate(hashes)))
            for place, one in enumerate(suspects):
                yield one.digest, (number, place, one.source, one.row_index)


def _later(
    group: tuple[bytes, Iterable[tuple[int, int, str, int]]],
) -> Iterator[tuple[int, tuple[int, str, int]]]:
    for number, place, source, row in sorted(group[1])[1:]:
        yield number, (place, source, row)


def _noted(group: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Split]:
    _, found = group
    later = tuple((source, row) for _, source, row in sorted(found["later"]))
    for split in found["split"]:
        yield replace(split, duplicates=later)


def _to_bytes(hashes: Hashes) -> bytes:
    return hashes.astype("<u8", copy=False).tobytes()


def _from_bytes(data: bytes) -> Hashes:
    return np.frombuffer(data, dtype="<u8")


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(counts)
    return sum(one for one, _ in pairs), sum(one for _, one in pairs)


def _allow(counts: tuple[int, int], corpus: CorpusConfig) -> None:
    check_repeats(*counts, corpus)


@dataclass
class CheckIds(BlockTransform):
    """Pipeline -> the splits of a plan, each with its records that repeat an id.

    Splits are read where the pipeline's workers are. What passes between them is 8 bytes for each
    record, by partitions, so that no worker holds all of them.

    Attributes:
        plan: The plan, its ids not checked yet.
        corpus: How its files are read.
        version: Where the hashes are kept for a pipeline that is run again, or None.
    """

    plan: Plan
    corpus: CorpusConfig
    version: Version | None = None

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Hashes, what repeats among them, and the splits that hold it once more."""
        splits = pipeline | "Splits" >> beam.Create(
            list(enumerate(self.plan.splits)), reshuffle=False
        ).with_output_types(tuple[int, Split])
        partitions = len(self.plan.splits) // _SPLITS_OF_A_PARTITION
        partitions = min(max(1, partitions), _MOST_PARTITIONS)
        repeats = (
            splits
            | "Spread" >> beam.Reshuffle()
            | "Hash"
            >> beam.ParDo(_Hash(self.corpus, self.version, partitions)).with_output_types(
                tuple[int, tuple[int, bytes]]
            )
            | "ByPartition" >> beam.GroupByKey()
            | "Repeats" >> beam.ParDo(_Repeats()).with_outputs(_COUNTS, main="hashes")
        )
        allowed = (
            repeats[_COUNTS]
            | "Sum" >> beam.CombineGlobally(_sum)
            | "Allow" >> beam.Map(_allow, self.corpus)
        )
        hashes = repeats["hashes"] | "Typed" >> beam.Map(lambda pair: pair).with_output_types(
            tuple[int, bytes]
        )
        later = (
            {"split": splits, "hashes": hashes}
            | "Suspects" >> beam.CoGroupByKey()
            | "LookAgain"
            >> beam.ParDo(
                _LookAgain(self.corpus), beam.pvalue.AsSingleton(allowed)
            ).with_output_types(tuple[bytes, tuple[int, int, str, int]])
            | "ById" >> beam.GroupByKey()
            | "Later" >> beam.FlatMap(_later).with_output_types(tuple[int, tuple[int, str, int]])
        )
        return (
            {"split": splits, "later": later}
            | "BySplit" >> beam.CoGroupByKey()
            | "Noted" >> beam.FlatMap(_noted).with_output_types(Split)
        )
