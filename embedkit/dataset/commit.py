"""The commit of a block: its part, its sidecars and, last, the record that makes it count.

Every object is created only if absent and never changed, so attempts at one block may run one
after the other or at once, and be killed anywhere: what the first of them created stays, and the
others build on it.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.dataset.identity import add_digests, id_digest
from embedkit.dataset.parquet import part_table, read_table, write_part
from embedkit.dataset.record import REDO, Record
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.sources import SourceRange, count_sources
from embedkit.dataset.stores import create, read_all
from embedkit.dataset.version import Version, block_of, block_order, split_of
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.formats.json_record import Count, JsonRecord
from embedkit.records import Block, LineCounts
from embedkit.vectors import EmbeddingBlock, Vectors

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
        stats_size: Bytes of its statistics; 0 in records of the first release.
        stats_sha256: SHA-256 of its statistics as hex; empty in records of the first release.
        rejects_sha256: The same of its rejects; empty where there are none, too.
        origin: The part that its rows were taken over from; None where they were encoded for it.
        sources: Its rows by input file; empty where there are none or too many to be named, and in
            records of the first release.
        source_range: The input files of its rows, where they are too many to be named.
    """

    block_id: str
    part: str | None
    size: Count
    sha256: str
    documents: Count
    rows: Count
    rejects: Count
    id_digest: str
    tokens: Count
    n_tokens: Count
    tokens_encoded: Count
    truncated: Count
    nulled: Count = 0
    stats_size: Count = 0
    stats_sha256: str = ""
    rejects_sha256: str = ""
    # An attempt of the first release at the same block says nothing of these.
    origin: Origin | None = field(default=None, compare=False)
    sources: dict[str, Count] = field(default_factory=dict, compare=False)
    source_range: SourceRange | None = field(default=None, compare=False)

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


def commit_block(
    version: Version, block: EmbeddingBlock, options: PartOptions, max_tokens: int, stats: bytes
) -> CommitRecord:
    """Writes a block's part, rejects and statistics, commits them, and ends its split with it.

    Args:
        version: Where it goes.
        block: The block with its vectors; it may have been committed, wholly or in part, before.
        options: How parts are written.
        max_tokens: Tokens of a row that the model saw at most.
        stats: The block's statistics, serialized.

    Returns:
        The commit record that stands, this attempt's or an earlier one's.

    Raises:
        IntegrityError: The block does not account for its documents, or something that an
            earlier attempt left is damaged or of another block, or the split ended otherwise.
        StoreError: The store failed; the same call again is safe.
    """
    record = standing_record(version, block.block_id) or _commit(
        version, block, options, max_tokens, stats
    )
    if block.last:
        end_split(version, SplitEnd.of(block))
    return record


def _commit(
    version: Version, block: EmbeddingBlock, options: PartOptions, max_tokens: int, stats: bytes
) -> CommitRecord:
    key = version.commit_key(block.block_id)
    record = _account(block, max_tokens)
    if record.rows:
        record = _with_part(record, version, block, options)
    elif version.store.size(version.part_key(block.block_id)) is not None:
        raise IntegrityError(
            f"{version.url_of(version.part_key(block.block_id))}: a part of a block that has no "
            f"rows; {REDO}"
        )
    if block.rejects:
        record = replace(record, rejects_sha256=sha256(_create_rejects(version, block)))
    stats_key = version.stats_key(block.block_id)
    if not create(version.store, stats_key, stats):
        stats = version.store.read(stats_key)
    record = record.with_statistics(stats)
    if create(version.store, key, record.to_json()):
        return record
    standing = CommitRecord.from_json(version.store.read(key), version.url_of(key))
    if record.rows and not standing.rows and standing.documents == record.documents:
        # Its document was rejected whole, with other blocks of it, while this attempt went on.
        version.store.remove(version.part_key(block.block_id))
        return standing
    if standing != record:
        raise IntegrityError(
            f"{version.url_of(key)}: says other than the same block does when it is encoded again; "
            f"remove it and its part, then run the same command again"
        )
    return standing


def end_split(version: Version, end: SplitEnd) -> None:
    """Records that a split was read to its end.

    Args:
        version: Where its blocks go.
        end: What it consists of.

    Raises:
        IntegrityError: An earlier attempt found another number of blocks or documents.
        StoreError: The store failed; the same call again is safe.
    """
    key = version.split_key(end.split_id)
    if create(version.store, key, end.to_json()):
        return
    standing = SplitEnd.from_json(version.store.read(key), version.url_of(key))
    if replace(standing, lines=end.lines) != end:
        raise IntegrityError(
            f"{version.url_of(key)}: says {standing.blocks} blocks and {standing.documents} "
            f"documents, this attempt read {end.blocks} and {end.documents}; the input has "
            "changed since, so give the job another version name"
        )


def standing_record(version: Version, block_id: str) -> CommitRecord | None:
    """Returns the commit record of a block, or None where it has none.

    Raises:
        IntegrityError: It is damaged, or of another block than its name says.
        StoreError: The store failed.
    """
    key = version.commit_key(block_id)
    try:
        data = version.store.read(key)
    except FileNotFoundError:
        return None
    return checked_record(version, block_id, key, data)


def standing_end(version: Version, split_id: str) -> SplitEnd | None:
    """Returns the end record of a split, or None where it has none.

    Raises:
        IntegrityError: It is damaged.
        StoreError: The store failed.
    """
    key = version.split_key(split_id)
    try:
        data = version.store.read(key)
    except FileNotFoundError:
        return None
    return SplitEnd.from_json(data, version.url_of(key))


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
        FileNotFoundError: A block has none.
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


def _account(block: EmbeddingBlock, max_tokens: int) -> CommitRecord:
    rows = block.rows
    n_tokens = rows.column("n_tokens").to_numpy().astype(np.int64)
    tokens = np.minimum(n_tokens, max_tokens)
    embedded = pc.count_distinct(rows.column("doc_id")).as_py()
    if embedded + len(block.rejects) != block.documents + block.continues:
        raise IntegrityError(
            f"block {block.block_id}: {block.documents} documents came in, but {embedded} are in "
            f"its rows and {len(block.rejects)} in its rejects; this is a fault in a step before"
        )
    if pc.count_distinct(rows.column("id")).as_py() != rows.num_rows:
        raise IntegrityError(
            f"block {block.block_id}: an id occurs twice; without unique ids in the input, leave "
            "the id column out"
        )
    sources, source_range = count_sources(rows.column("source"))
    return replace(
        record_without_rows(block.block_id, block.documents, len(block.rejects)),
        rows=rows.num_rows,
        id_digest=id_digest(rows.column("id")),
        tokens=int(tokens.sum()),
        n_tokens=int(n_tokens.sum()),
        tokens_encoded=block.tokens_encoded,
        truncated=int(pc.sum(rows.column("truncated")).as_py() or 0),
        nulled=sum(one.count for one in block.nulled),
        sources=sources,
        source_range=source_range,
    )


def _with_part(
    record: CommitRecord, version: Version, block: EmbeddingBlock, options: PartOptions
) -> CommitRecord:
    key = version.part_key(block.block_id)
    data = write_part(block, options)
    if not create(version.store, key, data):
        stored = version.store.read(key)
        if stored != data:
            _check_same_rows(stored, version.url_of(key), part_table(block, options))
            data = stored
    part = key.removeprefix(version.key(""))
    return replace(record, part=part, size=len(data), sha256=sha256(data))


def _check_same_rows(stored: bytes, name: str, ours: pa.Table) -> None:
    """Checks a part that another attempt left: vectors may differ as hardware does, no more."""
    theirs = read_table(stored, name, remedy=REDO)
    key = b"embedkit.fingerprint"
    fault = None
    if not theirs.schema.equals(ours.schema):
        fault = "its columns differ"
    elif (theirs.schema.metadata or {}).get(key) != (ours.schema.metadata or {}).get(key):
        fault = "its fingerprint differs"
    elif not theirs.drop_columns(["embedding"]).equals(ours.drop_columns(["embedding"])):
        fault = "its rows differ"
    else:
        if not np.isfinite(Vectors.from_arrow(theirs.column("embedding")).values).all():
            fault = "its vectors are not finite"
    if fault is not None:
        raise IntegrityError(
            f"{name}: left by another attempt at the block, but {fault} from this one's; {REDO}"
        )


def _create_rejects(version: Version, block: EmbeddingBlock) -> bytes:
    """Returns the rejects that stand, this attempt's or an earlier one's."""
    key = version.reject_key(block.block_id)
    lines = [json.dumps(asdict(reject), sort_keys=True) + "\n" for reject in block.rejects]
    data = "".join(lines).encode()
    if create(version.store, key, data):
        return data
    stored = version.store.read(key)
    if stored != data and _places(stored) != _places(data):
        raise IntegrityError(
            f"{version.url_of(key)}: left by another attempt at the block, but names other records "
            f"than this one rejects; {REDO}"
        )
    return stored


def _places(lines: bytes) -> list[tuple[str, int]] | None:
    try:
        rejects = [json.loads(line) for line in lines.splitlines()]
        return sorted((reject["source"], reject["row_index"]) for reject in rejects)
    except (ValueError, KeyError, TypeError):
        return None
