"""Where rows of any part of an earlier version are, found by hashes of their texts and ids.

    parts of the earlier version -> runs of hashes, sorted, kept beside the plan -> the places of a
    block's rows

A run is written by a worker that reads two columns of its parts; no worker holds more than one.
"""

import logging
import random
import threading
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.corpus.splits import FileRange, Split
from embedkit.dataset.hash_runs import (
    HashRun,
    RunOfParts,
    cut_into_runs,
    empty_run,
    missing_runs,
    open_run,
    remove_run,
    write_run,
)
from embedkit.dataset.manifest import Part
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.row_index import Places, find_in_runs, read_hashes
from embedkit.lazy import lazy_property

_LOG = logging.getLogger("embedkit")
_TRIES = 3
"""Times that a run is written that is torn as soon as it is."""

_BYTES_OF_ROW = 64
"""Bytes of a part that it takes to know the id and the text hash of a row, about."""

_opening = threading.Lock()
_opened: WeakValueDictionary[tuple[str, str], HashRun] = WeakValueDictionary()


@dataclass(frozen=True)
class GlobalIndex:
    """Where rows are, wherever in an earlier version; picklable. See ``RowIndex``.

    Each process maps the runs when it first looks for rows, and writes those that are missing.

    Attributes:
        earlier: The earlier version.
        parts: Its parts.
        version: The version that takes rows over, beside whose plan the runs are kept.
    """

    earlier: Version
    parts: tuple[Part, ...]
    version: Version

    def __reduce__(self) -> tuple[object, ...]:
        """Leaves the runs behind when it goes to another process."""
        return GlobalIndex, (self.earlier, self.parts, self.version)

    def find(self, rows: pa.RecordBatch) -> Places:
        """Returns where the texts of some rows are; of equal texts, that of the same id.

        Args:
            rows: Their columns ``id`` and ``text_hash`` count.

        Raises:
            IntegrityError: A part of the earlier version is gone or damaged.
            StoreError: The store failed.
        """
        return find_in_runs(rows, self._runs)

    @lazy_property
    def _runs(self) -> list[tuple[NDArray[np.int32], HashRun]]:
        runs = list(cut_into_runs(self.earlier, self.parts))
        # Workers that begin at once, and find none of them, do not all write the same ones.
        opened = {run.first: _shared(self.version, run) for run in random.sample(runs, len(runs))}
        return [
            (np.arange(run.first, run.first + len(run.parts), dtype=np.int32), opened[run.first])
            for run in runs
        ]


def _shared(version: Version, run: RunOfParts) -> HashRun:
    """Returns a run that all threads of this process share."""
    with _opening:
        found = _opened.get((version.url, run.name))
        if found is None:
            found = _opened[version.url, run.name] = opened_or_written(version, run)
    return found


def opened_or_written(version: Version, run: RunOfParts) -> HashRun:
    """Maps a run of a version into memory; one that is missing or torn is written first.

    Raises:
        IntegrityError: A part of the earlier version is gone or damaged, or what is written does
            not stay as it was written.
        StoreError: The store failed.
    """
    for _ in range(_TRIES):
        if (found := open_run(version, run)) is not None:
            return found
        if version.is_complete():
            # A late attempt, whose block is committed: no need to write what was removed.
            return empty_run()
        key = run.path(version)
        if version.store.size(key) is not None:
            remove_run(version, run)
            _LOG.warning("%s: torn; made anew", version.url_of(key))
        write_run(version, run, _read_run(run))
    raise IntegrityError(
        f"{version.url_of(run.path(version))}: does not keep what is written there; check the "
        "output store, then run the same command again"
    )


def _read_run(run: RunOfParts) -> HashRun:
    """Reads the ids and text hashes of a run's parts."""
    texts, ids = np.empty((2, run.rows), dtype=np.uint64)
    end = 0
    for part in run.parts:
        start, end = end, end + part.rows
        texts[start:end], ids[start:end] = read_hashes(run.earlier, part)
    return HashRun.of(texts, ids, [part.rows for part in run.parts])


@dataclass(frozen=True)
class MissingRun:
    """A run that is to be written, as workers are given it.

    Attributes:
        number: Its number among those that are.
        run: The run.
    """

    number: int
    run: RunOfParts

    @property
    def split(self) -> Split:
        """The parts that have to be read for it."""
        earlier = self.run.earlier
        ranges = (
            FileRange(
                source=part.path,
                url=f"{earlier.url}/{part.path}",
                size=part.size,
                etag=part.sha256,
                format="parquet",
                compression="none",
                start=0,
                end=1,
                stored=min(part.size, _BYTES_OF_ROW * part.rows),
            )
            for part in self.run.parts
        )
        return Split(f"{self.number:05d}", tuple(ranges))


@dataclass(frozen=True)
class WriteRun:
    """Writes a run in whatever process calls it; picklable.

    Attributes:
        version: The version that takes rows over.
    """

    version: Version

    def __call__(self, missing: MissingRun) -> None:
        """Reads the parts of a run, and writes it.

        Raises:
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        write_run(self.version, missing.run, _read_run(missing.run))


def write_index(index: GlobalIndex, map_splits: MapSplits) -> None:
    """Writes the runs of an index that are missing, by workers, before anybody looks into them.

    Args:
        index: The index.
        map_splits: Reaches the workers.

    Raises:
        IntegrityError: A part of the earlier version is gone or damaged.
        StoreError: The store failed.
    """
    runs = cut_into_runs(index.earlier, index.parts)
    left = [MissingRun(number, run) for number, run in enumerate(missing_runs(index.version, runs))]
    if not left:
        return
    rows = sum(missing.run.rows for missing in left)
    _LOG.info("looking at %d rows of version %s", rows, index.earlier.name)
    for _ in map_splits(WriteRun(index.version), left):
        pass
