"""Copying: the blocks of a split whose inputs are what they were, from an earlier version's."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from embedkit import __version__
from embedkit.corpus.splits import Split
from embedkit.dataset.commit import check_same_rows, commit_record, end_split
from embedkit.dataset.committed import (
    CommitRecord,
    Origin,
    SplitEnd,
    commit_records,
    standing_end,
    standing_record,
)
from embedkit.dataset.mend import fault_of_statistics
from embedkit.dataset.parquet import read_table, readable, reused_in
from embedkit.dataset.record import REDO
from embedkit.dataset.rejects import fault_of_rejects
from embedkit.dataset.stores import copy
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.flow.prepare import Draft
from embedkit.flow.reuse import Reuse
from embedkit.formats.canonical import load_json, sha256
from embedkit.formats.reused import Reused
from embedkit.reports.statistics import Sidecar

_LOG = logging.getLogger("embedkit")
_RECORDS_AT_ONCE = 1024
_OF_CIRCUMSTANCES = frozenset({"worker_lost", "non_finite_vector"})
"""Reasons of rejects that lie in how a record was embedded and not in the record."""

_REPEATED = "duplicate_id"


@dataclass(frozen=True)
class Copied:
    """What became of a split that was to be copied.

    Attributes:
        records: Its commit records in order; none where it is to be read.
        fault: What is wrong with the earlier version, if that is why.
    """

    records: tuple[CommitRecord, ...] = ()
    fault: str | None = None


@dataclass(frozen=True)
class _Footer:
    """What a part says of how its vectors were made."""

    libraries: dict[str, Any] = field(default_factory=dict)
    numerics: dict[str, Any] = field(default_factory=dict)
    reused_numerics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def all_numerics(self) -> tuple[dict[str, Any], ...]:
        """Of what numerics its vectors are, each once."""
        own, others = self.numerics, self.reused_numerics
        return (*([own] if own else []), *(one for one in others if one != own))


_FOOTER = TypeAdapter(_Footer)


@dataclass(frozen=True)
class _Earlier:
    """A block of the earlier version, all of it but its part.

    Attributes:
        record: Its commit record.
        rejects: Its rejects, a JSON object per line.
        stats: Its statistics, as they are of the block that is its copy.
        footer: What its part says of itself, if it has one.
    """

    record: CommitRecord
    rejects: bytes
    stats: bytes
    footer: _Footer | None


def copy_split(split: Split, draft: Draft) -> list[CommitRecord]:
    """Copies the blocks of a split, if the earlier version has it with the very same inputs.

    The bytes stay in the store where that can copy. Nothing is read of the inputs.

    Args:
        split: The split, with the records noted that repeat an id.
        draft: The version that it is a split of.

    Returns:
        The commit records of all of its blocks, in order; none where it is to be read.

    Raises:
        IntegrityError: Another attempt at one of its blocks left something else.
        StoreError: The store failed; the same call again is safe.
    """
    earlier = None if draft.reuse is None else draft.reuse.splits.get(split.split_id)
    if draft.reuse is None or earlier is None:
        return []
    copied = copy_blocks(split, earlier, draft.version, draft.reuse)
    if copied.fault is not None:
        _LOG.warning("split %s is read and not copied: %s", split.split_id, copied.fault)
    return list(copied.records)


def copy_blocks(split: Split, earlier_id: str, version: Version, reuse: Reuse) -> Copied:
    """Copies the blocks of a split of the earlier version, and ends the split.

    Nothing is done where other records repeat an id than did, or blocks are not what the same
    inputs would make now.

    Every object is created only if absent, so attempts may run one after the other or at once.

    Args:
        split: The split, with the records noted that repeat an id; its files do not matter.
        earlier_id: The split of the earlier version that had the same inputs.
        version: Where they go.
        reuse: The earlier version.

    Raises:
        IntegrityError: Another attempt at one of the blocks left something else.
        StoreError: The store failed; the same call again is safe.
    """
    try:
        end = standing_end(reuse.version, earlier_id)
        blocks = [] if end is None else list(_blocks(end, reuse.version, split.split_id))
    except (FileNotFoundError, IntegrityError) as error:
        return Copied(fault=_said(error, reuse.version))
    if end is None or not _may_be_copied(blocks, split, reuse):
        return Copied()
    records = []
    for seq, block in enumerate(blocks):
        try:
            records.append(
                _copy_block(f"{split.split_id}-{seq:05d}", block, version, reuse.version)
            )
        except FileNotFoundError as error:
            return Copied(fault=_said(error, reuse.version))
    end_split(version, replace(end, split_id=split.split_id))
    return Copied(tuple(records))


def _said(error: Exception, earlier: Version) -> str:
    if isinstance(error, FileNotFoundError):
        return f"a file of version {earlier.name} is gone ({one_line(error)})"
    return str(error)


def _blocks(end: SplitEnd, version: Version, split_id: str) -> Iterator[_Earlier]:
    """Reads the blocks of a split, whose copies are of another one, and looks at their parts.

    Raises:
        FileNotFoundError: A file is gone.
        IntegrityError: A file is damaged.
    """
    for seq, record in enumerate(_records(end, version)):
        key = version.stats_key(record.block_id)
        stats = version.store.read(key)
        _refuse(version.url_of(key), fault_of_statistics(stats, record))
        if end.split_id != split_id:
            stats = _renamed(stats, record, f"{split_id}-{seq:05d}", version.url_of(key))
        rejects = b""
        if record.rejects:
            key = version.reject_key(record.block_id)
            rejects = version.store.read(key)
            _refuse(version.url_of(key), fault_of_rejects(rejects, record))
        yield _Earlier(record, rejects, stats, _footer(version, record) if record.rows else None)


def _renamed(stats: bytes, record: CommitRecord, block_id: str, name: str) -> bytes:
    """Returns the statistics of a block as those of one of another name."""
    try:
        return Sidecar.from_json(stats, record.block_id).in_block(block_id).to_json()
    except ValueError as error:
        raise IntegrityError(
            f"{name}: not the statistics that were written ({one_line(error)})"
        ) from error


def _records(end: SplitEnd, version: Version) -> Iterator[CommitRecord]:
    # A few at a time, as an end record may tell of more than fit into memory.
    for start in range(0, end.blocks, _RECORDS_AT_ONCE):
        some = range(start, min(start + _RECORDS_AT_ONCE, end.blocks))
        yield from commit_records(version, [f"{end.split_id}-{seq:05d}" for seq in some])


def _footer(version: Version, record: CommitRecord) -> _Footer:
    key = version.part_key(record.block_id)
    name = version.url_of(key)
    with version.store.open(key) as file:
        size = file.size()
        if size != record.size:
            _refuse(name, f"{size} bytes, but its commit record says {record.size}")
        with readable(name):
            metadata = pq.read_metadata(file).metadata or {}
    try:
        return _FOOTER.validate_python(
            {
                name: load_json(metadata[f"embedkit.{name}".encode()])
                for name in ("libraries", "numerics", "reused_numerics")
                if f"embedkit.{name}".encode() in metadata
            }
        )
    except ValueError as error:
        raise IntegrityError(f"{name}: its footer is damaged ({one_line(error)})") from error


def _refuse(name: str, fault: str | None) -> None:
    if fault is not None:
        raise IntegrityError(f"{name}: {fault}")


def _may_be_copied(blocks: list[_Earlier], split: Split, reuse: Reuse) -> bool:
    """Whether the same inputs would make the same rows now, with numerics that are asked for."""
    rejects = [load_json(line) for one in blocks for line in one.rejects.splitlines()]
    if _OF_CIRCUMSTANCES & {reject["reason"] for reject in rejects}:
        return False
    # Which other splits have a say in.
    repeated = {(one["source"], one["row_index"]) for one in rejects if one["reason"] == _REPEATED}
    if repeated != set(split.duplicates):
        return False
    footers = [one.footer for one in blocks if one.footer is not None]
    # Another release may read a file otherwise, and write other columns.
    if not footers or any(one.libraries.get("embedkit") != __version__ for one in footers):
        return False
    return reuse.numerics is None or all(one.all_numerics == (reuse.numerics,) for one in footers)


def _copy_block(block_id: str, block: _Earlier, version: Version, earlier: Version) -> CommitRecord:
    """Commits a copy of a block of an earlier version, unless the block is committed already.

    Raises:
        FileNotFoundError: The part is gone.
    """
    if (standing := standing_record(version, block_id)) is not None:
        return standing
    was = block.record
    reused = Reused(
        version=earlier.name,
        rows=was.rows,
        tokens=was.tokens,
        sources={source: (rows, 0, 0) for source, rows in was.sources.items()},
        numerics=() if block.footer is None else block.footer.all_numerics,
    )
    record = replace(was, block_id=block_id, tokens_encoded=0, reused=reused)
    if was.part is not None:
        record = replace(record, origin=was.origin or Origin(earlier.name, was.part))
        record = _with_part(record, was, version, earlier)
    return commit_record(version, record, block.rejects, block.stats)


def _with_part(
    record: CommitRecord, was: CommitRecord, version: Version, earlier: Version
) -> CommitRecord:
    source, key = earlier.part_key(was.block_id), version.part_key(record.block_id)
    record = replace(record, part=key.removeprefix(version.key("")))
    if copy(version.store, source, key):
        return record
    stored = version.store.read(key)
    if sha256(stored) == was.sha256:
        return record
    # Another attempt has encoded the block, as one does that is told to reuse nothing.
    ours = read_table(earlier.store.read(source), earlier.url_of(source))
    name = version.url_of(key)
    reused = reused_in(check_same_rows(stored, name, ours).schema, name, REDO)
    size = len(stored)
    return replace(record, size=size, sha256=sha256(stored), origin=None, reused=reused)
