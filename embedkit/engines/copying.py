"""Splits whose inputs are what they were, copied before an engine starts any encoder."""

import logging
from dataclasses import dataclass, replace

from embedkit.corpus.splits import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.version import Version
from embedkit.engines.display import Display
from embedkit.flow.copy_split import Copied, copy_blocks
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Job
from embedkit.flow.reuse import Reuse

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class SplitToCopy:
    """A split that an earlier version has as well.

    Attributes:
        split: The split, without its files, as none of them is read.
        earlier: The earlier version's split.
    """

    split: Split
    earlier: str


@dataclass(frozen=True)
class CopyBlocks:
    """Copies the blocks of a split in whatever process calls it; picklable.

    Attributes:
        version: Where they go.
        reuse: The earlier version.
    """

    version: Version
    reuse: Reuse

    def __call__(self, one: SplitToCopy) -> Copied:
        """Copies them, or says that the split is to be read.

        Raises:
            IntegrityError: Another attempt at one of the blocks left something else.
            StoreError: The store failed.
        """
        return copy_blocks(one.split, one.earlier, self.version, self.reuse)


def copy_unchanged(
    job: Job, splits: tuple[Split, ...], map_splits: MapSplits, display: Display
) -> tuple[dict[str, CommitRecord], tuple[Split, ...]]:
    """Copies what an earlier version has of splits whose inputs are what they were.

    Args:
        job: The job.
        splits: The splits that are left to do, with the records noted that repeat an id.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Returns:
        The commit records of what was copied, by block, and the splits that are left now.

    Raises:
        IntegrityError: Another attempt at a block left something else.
        StoreError: The store failed.
    """
    reuse = job.reuse
    known = {} if reuse is None else reuse.splits
    items = [
        SplitToCopy(replace(split, ranges=()), known[split.split_id])
        for split in splits
        if split.split_id in known
    ]
    if reuse is None or not items:
        return {}, splits
    display.phase(f"copying unchanged parts of version {reuse.version.name}")
    records: dict[str, CommitRecord] = {}
    copied: set[str] = set()
    faults: list[str] = []
    copy = CopyBlocks(job.version, reuse.without_splits())
    for item, result in zip(items, map_splits(copy, items), strict=True):
        if result.records:
            copied.add(item.split.split_id)
            records.update((record.block_id, record) for record in result.records)
        if result.fault is not None:
            faults.append(f"split {item.split.split_id}: {result.fault}")
    if faults:
        _LOG.warning(
            "%d of %d unchanged splits could not be copied and are read; %s",
            len(faults),
            len(items),
            faults[0],
        )
    _LOG.info(
        "copied %d of %d splits, %d rows, from version %s",
        len(copied),
        len(splits),
        sum(record.rows for record in records.values()),
        reuse.version.name,
    )
    return records, tuple(split for split in splits if split.split_id not in copied)
