"""An index that grows from an earlier version's: what has its vector there is not added again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.version import INDEXES
from embedkit.errors import ConfigError
from embedkit.search.export.ids import DIGESTS, Ids, IdsWriter, digests_of
from embedkit.search.export.index import IndexKind, VectorIndex, build
from embedkit.search.export.record import NAME, ExportRecord, Grown
from embedkit.search.export.source import Source

_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Earlier:
    """An index that another one grows from.

    Attributes:
        folder: Where it stands.
        record: What it is of.
    """

    folder: Path
    record: ExportRecord

    @classmethod
    def at(cls, path: str, target: str, source: Source) -> "Earlier":
        """Finds an index.

        Args:
            path: Its folder, or that of a version which has it in its own folder.
            target: The kind that it must be of.
            source: The version that is exported.

        Raises:
            ConfigError: There is none, or it is of another kind, dimension or metric.
            IntegrityError: Its record is damaged.
        """
        folder = Path(path).expanduser()
        inside = folder / INDEXES / target
        if not (folder / NAME).is_file() and (inside / NAME).is_file():
            folder = inside
        record = ExportRecord.read(folder)
        if record.target != target:
            raise ConfigError(
                f"{folder}: is an export to {record.target}, from which none to {target} can grow; "
                "leave --from out"
            )
        wanted = (source.dimension, source.metric)
        if (record.dimension, record.metric) != wanted:
            raise ConfigError(
                f"{folder}: has vectors of {record.dimension} components compared by "
                f"{record.metric}, and {source.version.url} of {source.dimension} by "
                f"{source.metric}; leave --from out"
            )
        return cls(folder, record)


def grow(
    kind: IndexKind, source: Source, earlier: Earlier, folder: Path
) -> tuple[VectorIndex, Grown]:
    """Makes an index of a version from that of an earlier one.

    Entries and rows are matched by the bytes of their vectors, whatever their ids are: equal ones
    may stand for one another. In memory that takes 40 bytes a row besides the index.

    Args:
        kind: The kind of both.
        source: The version.
        earlier: The earlier index, which stays as it is.
        folder: Where ``ids.arrow`` goes.

    Raises:
        IntegrityError: The earlier index or a part is damaged.
    """
    ids = Ids(earlier.folder)
    standing = np.flatnonzero(ids.rows() >= 0)
    was = ids.digests()
    now = _digests(source)
    places = matched(was[standing], now)
    taken = places >= 0
    labels = np.full(len(now), -1, np.int64)
    labels[taken] = standing[places[taken]]
    removed = np.setdiff1d(standing, labels[taken])
    added = np.flatnonzero(~taken)
    index = kind.load(earlier.folder, source.metric, earlier.record.settings)
    counts: dict[str, Any] = {
        "taken": len(now) - len(added),
        "added": len(added),
        "removed": len(removed),
    }
    rebuilt = (
        _not_worth_it(len(ids), counts)
        or (None if index.can_remove or not len(removed) else _cannot_remove(earlier, counts))
        or kind.outgrown(earlier.record.settings, source.rows)
    )
    if rebuilt is not None:
        counts |= {"taken": 0, "added": source.rows}
        grown = Grown(version=earlier.record.version, rebuilt=rebuilt, **counts)
        return build(kind, source, folder), grown
    if len(removed):
        index.remove(removed)
    labels[added] = np.arange(len(ids), len(ids) + len(added))
    for rows in source.batches(wanted=~taken):
        here = np.flatnonzero(~taken[rows.first : rows.first + len(rows.ids)])
        if len(here):
            index.add(labels[rows.first + here], rows.float32()[here])
    _write_ids(folder, source, labels, np.concatenate([was, now[added]]))
    return index, Grown(version=earlier.record.version, **counts)


def matched(was: NDArray[np.void], now: NDArray[np.void]) -> NDArray[np.int64]:
    """Finds for each digest the place of an equal one among others, each of which is taken once.

    Args:
        was: Of ``DIGESTS``, shape (n,).
        now: The same, shape (m,).

    Returns:
        Places in ``was``, -1 where there is none left, shape (m,).
    """
    both = np.concatenate([was, now])
    later = np.repeat(np.array([False, True]), [len(was), len(now)])
    # Of equal ones those of before come first, as the order of equal keys stays.
    order = np.lexsort((both["low"], both["high"]))
    ordered = both[order]
    begins = np.ones(len(both), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    group = np.cumsum(begins) - 1
    start = np.flatnonzero(begins)
    before = np.bincount(group[~later[order]], minlength=len(start))
    place = np.arange(len(both)) - start[group] - before[group]
    paired = np.flatnonzero(later[order] & (place < before[group]))
    found = np.full(len(now), -1, np.int64)
    found[order[paired] - len(was)] = order[start[group[paired]] + place[paired]]
    return found


def _not_worth_it(entries: int, counts: dict[str, int]) -> str | None:
    if not counts["taken"]:
        return "it has no vector of this version"
    rows = counts["taken"] + counts["added"]
    if entries + counts["added"] > 2 * rows:
        return "more than half of its entries would be of rows that are gone"
    return None


def _cannot_remove(earlier: Earlier, counts: dict[str, int]) -> str:
    return (
        f"nothing can be removed from an index of {earlier.record.target}, and "
        f"{counts['removed']:,} of its rows are gone"
    )


def _digests(source: Source) -> NDArray[np.void]:
    digests = np.empty(source.rows, DIGESTS)
    for rows in source.batches():
        digests[rows.first : rows.first + len(rows.ids)] = digests_of(rows.vectors)
    return digests


def _write_ids(
    folder: Path, source: Source, labels: NDArray[np.int64], digests: NDArray[np.void]
) -> None:
    rows = np.full(len(digests), -1, np.int64)
    rows[labels] = np.arange(len(labels))
    # Offsets of 64 bits, as all ids together may be long.
    names = pa.chunked_array([ids.cast(pa.large_string()) for ids in source.ids()])
    writer = IdsWriter(folder)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        numbers = pa.array(some, mask=some < 0)
        taken = names.take(numbers).combine_chunks().cast(pa.string())
        writer.add(taken, numbers, digests[start : start + _AT_ONCE])
    writer.close()
