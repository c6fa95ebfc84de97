"""What is committed to a version: the records of its blocks and splits, and how they are read."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import model_validator

from embedkit.dataset.identity import add_digests
from embedkit.dataset.record import REDO, Record, check_rows
from embedkit.dataset.sources import SourceRange
from embedkit.dataset.stores import read_all, read_if_there
from embedkit.dataset.version import Version, block_of, block_order, split_of
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.formats.json_record import Count, Digest, JsonRecord
from embedkit.formats.reused import Reused
from embedkit.records import Block, LineCounts

_Lines = tuple[Count, Count, Count, Count, Count]


@dataclass(frozen=True)
class Origin(JsonRecord):
    """Where the rows of a part were taken from, if not encoded for it.

    Attributes:
        version: Name of the version.
        part: Its Parquet file, relative to it.
    """

    version: str
    part: str


@dataclass(frozen=True)
class CommitRecord(Record):
    """What a block added to its version.

    Attributes:
        block_id: The block.
        part: Its Parquet file relative to the version, or None where it has no rows.
        size: Bytes of the part.
        sha256: SHA-256 of the part as hex.
        documents: Input records it accounts for, rejects included.
        rows: Rows of the part.
        rejects: Records that could not be embedded.
        id_digest: Digest of the set of its ids, see ``id_digest``.
        tokens: Tokens of all rows as the model saw them.
        n_tokens: Tokens of all rows before truncation.
        tokens_encoded: Tokens that were sent to encoders for it, see ``EmbeddingBlock``.
        truncated: Rows that were longer than the model sees.
        nulled: Metadata values that did not fit their columns and became null.
        n_unknown: Tokens of them that stand for unknown text; 0 where these are not counted.
        stats_size: Bytes of its statistics; 0 in records of the first release.
        stats_sha256: SHA-256 of its statistics as hex; empty in records of the first release.
        rejects_sha256: The same of its rejects; empty where there are none, too.
        origin: The part that its rows were taken over from; None where they were encoded for it.
        sources: Its rows by input file; empty where there are none or too many to be named, and in
            records of the first release.
        source_range: The input files of its rows, where they are too many to be named.
        reused: How its rows stand to those of an earlier version; None where they were not
            compared with any.
    """

    block_id: str
    part: str | None
    size: Count
    sha256: str
    documents: Count
    rows: Count
    rejects: Count
    id_digest: Digest
    tokens: Count
    n_tokens: Count
    # How much another attempt could take over may be more, or less.
    tokens_encoded: Count = field(compare=False)
    truncated: Count
    nulled: Count = 0
    n_unknown: Count = 0
    stats_size: Count = 0
    stats_sha256: str = ""
    rejects_sha256: str = ""
    # An attempt of the first release at the same block says nothing of these.
    origin: Origin | None = field(default=None, compare=False)
    sources: dict[str, Count] = field(default_factory=dict, compare=False)
    source_range: SourceRange | None = field(default=None, compare=False)
    reused: Reused | None = field(default=None, compare=False)

    @property
    def continues(self) -> bool:
        """Whether the block goes on with a document, which is counted in the first of its own."""
        # The one block of a split without any record counts none either.
        return not self.documents and block_order(self.block_id)[1] > 0

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        check_rows(self.rows, self.size)
        return self

    def with_statistics(self, stats: bytes) -> "CommitRecord":
        """Returns the record with what tells these statistics of the block from others."""
        return replace(self, stats_size=len(stats), stats_sha256=sha256(stats))


@dataclass(frozen=True)
class SplitEnd(Record):
    """What a split consists of, known once it was read to its end.

    Attributes:
        split_id: The split.
        blocks: Number of its blocks.
        documents: Input records in them, rejects included.
        lines: For each range of the split the fields of its ``LineCounts``; none in versions of
            the first release.
    """

    split_id: str
    blocks: Count
    documents: Count
    lines: tuple[_Lines, ...] = ()

    @classmethod
    def of(cls, block: Block) -> "SplitEnd":
        """Returns the end of the split that a block is the last of."""
        documents = block.documents_before + block.documents
        lines = tuple(map(_counts, block.lines))
        return cls(block.split_id, block.seq + 1, documents, lines)

    @property
    def line_counts(self) -> tuple[LineCounts, ...]:
        """What the lines of each range are."""
        return tuple(LineCounts(*counts) for counts in self.lines)


def _counts(lines: LineCounts) -> _Lines:
    return lines.lines, lines.blank, lines.headers, lines.continued, lines.records


def standing_record(version: Version, block_id: str) -> CommitRecord | None:
    """Returns the commit record of a block, or None where it has none.

    Raises:
        IntegrityError: It is damaged, or of another block than its name says.
        StoreError: The store failed.
    """
    key = version.commit_key(block_id)
    data = read_if_there(version.store, key)
    return None if data is None else checked_record(version, block_id, key, data)


def standing_end(version: Version, split_id: str) -> SplitEnd | None:
    """Returns the end record of a split, or None where it has none.

    Raises:
        IntegrityError: It is damaged, or of another split than its name says.
        StoreError: The store failed.
    """
    key = version.split_key(split_id)
    data = read_if_there(version.store, key)
    return None if data is None else checked_end(version, split_id, key, data)


def committed(
    version: Version, known: Mapping[str, CommitRecord] | None = None
) -> dict[str, CommitRecord]:
    """Returns the commit records of a version in block order.

    Args:
        version: A version, complete or not.
        known: Records that were read before and need not be read again.

    Raises:
        IntegrityError: A record is damaged.
        StoreError: The store failed.
    """
    records = dict(known or {})
    blocks = [block_of(key) for key in version.store.list(version.key("_meta/commits/"))]
    missing = sorted(
        (block for block in blocks if block is not None and block not in records), key=block_order
    )
    records.update((record.block_id, record) for record in commit_records(version, missing))
    return dict(sorted(records.items(), key=lambda item: block_order(item[0])))


def committed_blocks(version: Version) -> list[str]:
    """Returns the blocks that have commit records, in order."""
    found = filter(None, map(block_of, version.store.list(version.key("_meta/commits/"))))
    return sorted(found, key=block_order)


def commit_records(version: Version, blocks: Sequence[str]) -> Iterator[CommitRecord]:
    """Yields the commit records of blocks in the order given, few of them in memory at a time.

    Raises:
        IntegrityError: A record is damaged, or of another block than its name says.
        GoneError: A block has none.
        StoreError: The store failed.
    """
    keys = (version.commit_key(block) for block in blocks)
    for block, (key, data) in zip(blocks, read_all(version.store, keys), strict=True):
        yield checked_record(version, block, key, data)


def ended_splits(version: Version) -> dict[str, SplitEnd]:
    """Returns the end records of a version in the order of the splits.

    Raises:
        IntegrityError: A record is damaged, or of another split than its name says.
        StoreError: The store failed.
    """
    found = [split_of(key) for key in version.store.list(version.key("_meta/splits/"))]
    splits = sorted((split for split in found if split is not None), key=int)
    ends = {}
    for key, data in read_all(version.store, map(version.split_key, splits)):
        split = split_of(key) or ""
        ends[split] = checked_end(version, split, key, data)
    return ends


def done_splits(version: Version, committed: Container[str]) -> set[str]:
    """Returns the splits that were read to their end and of which every block is committed.

    Args:
        version: A version, complete or not.
        committed: Its committed blocks.

    Raises:
        IntegrityError: A record is damaged, or of another split than its name says.
        StoreError: The store failed.
    """
    return {
        split
        for split, end in ended_splits(version).items()
        if all(f"{split}-{seq:05d}" in committed for seq in range(end.blocks))
    }


def checked_end(version: Version, split: str, key: str, data: bytes) -> SplitEnd:
    """Reads the end record of a split.

    Raises:
        IntegrityError: It is damaged, or of another split.
    """
    end = SplitEnd.from_json(data, version.url_of(key))
    if end.split_id != split:
        raise IntegrityError(f"{version.url_of(key)}: of split {end.split_id!r}; {REDO}")
    return end


def record_without_rows(block_id: str, documents: int, rejects: int) -> CommitRecord:
    """Returns the commit record of a block that has rejects at most."""
    return CommitRecord(
        block_id=block_id,
        part=None,
        size=0,
        sha256="",
        documents=documents,
        rows=0,
        rejects=rejects,
        id_digest=add_digests([]),
        tokens=0,
        n_tokens=0,
        tokens_encoded=0,
        truncated=0,
    )


def checked_record(version: Version, block: str, key: str, data: bytes) -> CommitRecord:
    """Reads the commit record of a block.

    Raises:
        IntegrityError: It is damaged, or of another block.
    """
    record = CommitRecord.from_json(data, version.url_of(key))
    part = version.part_key(block).removeprefix(version.key("")) if record.rows else None
    if record.block_id != block or record.part != part:
        raise IntegrityError(
            f"{version.url_of(key)}: of block {record.block_id!r} with part {record.part!r}, "
            f"expected {block} and {part}; {REDO}"
        )
    return record
