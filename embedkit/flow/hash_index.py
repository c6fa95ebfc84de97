"""Where rows of any part of an earlier version are, found by hashes of their texts and ids.

    parts of the earlier version -> runs of hashes, sorted, kept beside the plan -> the places of a
    block's rows

A run is written by a worker that reads two columns of its parts; no worker holds more than one.
"""

import logging
import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.corpus.splits import FileRange, Split
from embedkit.dataset.hash_runs import (
    ROW_BITS,
    Hashes,
    HashRun,
    RunOfParts,
    cut_into_runs,
    empty_run,
    hashes_of_pairs,
    missing_runs,
    open_run,
    remove_run,
    write_run,
)
from embedkit.dataset.identity import id_hashes
from embedkit.dataset.manifest import Part
from embedkit.dataset.parquet import RESTORE
from embedkit.dataset.rows import read_columns
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.row_index import Places
from embedkit.reports.repeats import hash64

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
        texts, ids = hash64(rows.column("text_hash")), _id_hashes(rows.column("id"))
        known = np.zeros(len(texts), dtype=bool)
        of_text, of_pair = np.full((2, len(texts)), -1, dtype=np.int64)
        by_text, by_id = _Search(texts), _Search(ids)
        by_pair = _Search(hashes_of_pairs(texts, ids))
        for run, hashes in self._runs:
            first = np.int64(run.first << ROW_BITS)
            found, at = by_text.found_in(hashes.texts)
            of_text[found] = hashes.places[at].astype(np.int64) + first
            found, at = by_pair.found_in(hashes.pairs)
            of_pair[found] = hashes.pair_places[at].astype(np.int64) + first
            found, _ = by_id.found_in(hashes.ids)
            known[found] = True
        places = np.where(of_pair >= 0, of_pair, of_text)
        parts = (places >> ROW_BITS).astype(np.int32)
        return Places(parts, np.where(parts >= 0, places & ((1 << ROW_BITS) - 1), 0), known)

    @cached_property
    def _runs(self) -> list[tuple[RunOfParts, HashRun]]:
        runs = list(cut_into_runs(self.earlier, self.parts))
        # Workers that begin at once, and find none of them, do not all write the same ones.
        opened = {run.first: _shared(self.version, run) for run in random.sample(runs, len(runs))}
        return [(run, opened[run.first]) for run in runs]


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
        for batch in read_columns(run.earlier, [part], ["id", "text_hash"]):
            start, end = end, end + len(batch)
            texts[start:end] = _text_hashes(batch, f"{run.earlier.url}/{part.path}")
            ids[start:end] = _id_hashes(batch.column("id"))
    return HashRun.of(texts, ids, [part.rows for part in run.parts])


def _text_hashes(rows: pa.RecordBatch, name: str) -> Hashes:
    with suppress(ValueError):
        hashes = hash64(rows.column("text_hash"))
        if len(hashes) == len(rows):
            return hashes
    raise IntegrityError(f"{name}: its text_hash is no hash of a text; {RESTORE}")


def _id_hashes(ids: pa.Array) -> Hashes:
    return np.ascontiguousarray(id_hashes(ids)[:, 0])


class _Search:
    """Hashes that are looked for in one run after the other, until they are found.

    They are looked for in ascending order, so that a search goes once through a run, and does not
    jump about in it.
    """

    def __init__(self, hashes: Hashes) -> None:
        self._rows = np.argsort(hashes)
        self._left = hashes[self._rows]

    def found_in(self, ascending: Hashes) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Returns which hashes are there that were not found before, and where each is first."""
        if not len(ascending):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.searchsorted(ascending, self._left)
        there = ascending[np.minimum(at, len(ascending) - 1)] == self._left
        found = self._rows[there]
        self._rows, self._left = self._rows[~there], self._left[~there]
        return found, at[there]


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
