"""From committed blocks to the manifest: everything is there, nothing else is, and it adds up."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from embedkit.dataset.committed import CommitRecord, SplitEnd, commit_records, ended_splits
from embedkit.dataset.identity import add_digests
from embedkit.dataset.manifest import COUNTS, REQUIRED, Manifest, Part
from embedkit.dataset.processes import Each, here
from embedkit.dataset.rejects import count_reasons
from embedkit.dataset.reuse_sums import ReuseSums
from embedkit.dataset.version import Version, block_of, block_order
from embedkit.errors import ConfigError, IntegrityError, ResumableError

_Block = TypeVar("_Block")

BLOCKS_AT_ONCE = 256
"""Blocks that are read by one process and added up, before the sums of all are."""

_RESUME = "run the same command again to resume"


def finalize(
    version: Version,
    split_ids: Sequence[str],
    description: Mapping[str, Any],
    each: Each = here,
    totals: "Totals | None" = None,
    earlier: Callable[[str], Sequence[Part] | None] = lambda _: None,
) -> Manifest:
    """Checks that nothing of the plan is missing from a version and nothing else is in it.

    Nothing is written, so it may be asked any number of times.

    Args:
        version: The version whose splits have all been worked on.
        split_ids: The splits of its plan.
        description: JSON values for the manifest; ``dimension``, ``metric`` and ``normalized``
            must be among them.
        each: Has the records of some blocks read at a time, here or in other processes.
        totals: What the commit records add up to, where they were read before.
        earlier: Returns the parts of an earlier version that rows were compared with, by its name;
            None where they cannot be told.

    Raises:
        ConfigError: The description lacks a required name.
        ResumableError: A split has not ended or a block is not committed.
        IntegrityError: Counts do not add up, or there is a file that belongs to no block.
        StoreError: The store failed.
    """
    missing = [name for name in REQUIRED if name not in description]
    if missing:
        raise ConfigError(f"{version.url}: the description lacks {', '.join(missing)}; add them")
    ends = _check_splits(version, split_ids)
    blocks = _committed_blocks(version, split_ids, ends)
    if totals is None:
        totals = Totals()
        for one in each(partial(totals_of, version), runs_of(blocks)):
            totals.add(one)
    _check_documents(version, totals, ends)
    _check_whole_documents(version, totals)
    _check_listing(version, "data/", {version.key(part.path) for part in totals.parts})
    rejecting = [record.block_id for record in totals.with_rejects]
    _check_listing(version, "rejects/", set(map(version.reject_key, rejecting)))
    _check_listing(version, "_meta/stats/", set(map(version.stats_key, blocks)))
    reasons: Counter[str] = Counter()
    for found in each(partial(count_reasons, version), runs_of(totals.with_rejects)):
        reasons.update(found)
    return Manifest(
        version=version.name,
        description=dict(description),
        **totals.counts,
        size=sum(part.size for part in totals.parts),
        id_digest=totals.id_digest,
        splits=len(split_ids),
        blocks=len(blocks),
        parts=tuple(totals.parts),
        reject_reasons=dict(reasons),
        lines={},
        input_format="",
        line_ranges={},
        reused=totals.reuse.against(totals.counts["rows"], earlier),
    )


def runs_of(blocks: Sequence[_Block]) -> list[Sequence[_Block]]:
    """Cuts blocks into runs, in a way that depends on nothing but their number.

    What is added up run by run comes out the same, to the last bit, whoever read which of them.
    """
    return [
        blocks[start : start + BLOCKS_AT_ONCE] for start in range(0, len(blocks), BLOCKS_AT_ONCE)
    ]


@dataclass
class Totals:
    """What commit records add up to.

    Attributes:
        counts: The sums of ``COUNTS``.
        id_digest: Digest of the set of all ids.
        blocks: How many records there are.
        parts: Their parts, in their order.
        documents: Input records by split.
        with_rejects: The records of blocks with rejects.
        reuse: How their rows stand to those of an earlier version.
        continued: The records of blocks that go on with the document of the block before.
    """

    counts: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    id_digest: str = field(default_factory=lambda: add_digests([]))
    blocks: int = 0
    parts: list[Part] = field(default_factory=list)
    documents: Counter[str] = field(default_factory=Counter)
    with_rejects: list[CommitRecord] = field(default_factory=list)
    reuse: ReuseSums = field(default_factory=ReuseSums)
    continued: list[CommitRecord] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[CommitRecord]) -> "Totals":
        """Adds up records."""
        totals = cls(
            counts={name: sum(getattr(record, name) for record in records) for name in COUNTS},
            id_digest=add_digests(record.id_digest for record in records),
            blocks=len(records),
            with_rejects=[record for record in records if record.rejects],
            reuse=ReuseSums.of(records),
            continued=[record for record in records if record.continues],
        )
        for record in records:
            totals.documents[record.block_id.partition("-")[0]] += record.documents
            if record.part is not None:
                totals.parts.append(part_of(record, record.part))
        return totals

    def add(self, other: "Totals") -> None:
        """Adds what the records of later blocks add up to."""
        self.counts = {name: count + other.counts[name] for name, count in self.counts.items()}
        self.id_digest = add_digests([self.id_digest, other.id_digest])
        self.blocks += other.blocks
        self.parts += other.parts
        self.documents.update(other.documents)
        self.with_rejects += other.with_rejects
        self.reuse.add(other.reuse)
        self.continued += other.continued


def part_of(record: CommitRecord, path: str) -> Part:
    """Returns what the manifest says of a part that a record names."""
    return Part(path, record.size, record.sha256, record.rows, record.sources, record.source_range)


def totals_of(version: Version, blocks: Sequence[str]) -> Totals:
    """Adds up the commit records of some blocks.

    Raises:
        IntegrityError: A record is damaged, or of another block than its name says.
        GoneError: A block has none.
        StoreError: The store failed.
    """
    return Totals.of(list(commit_records(version, blocks)))


def _check_splits(version: Version, split_ids: Iterable[str]) -> dict[str, SplitEnd]:
    ends = ended_splits(version)
    planned = set(split_ids)
    open_splits = sorted(planned - ends.keys(), key=int)
    if open_splits:
        raise ResumableError(
            f"{version.url}: {len(open_splits)} of {len(planned)} splits have not ended, the first "
            f"is {open_splits[0]}; {_RESUME}"
        )
    foreign = sorted(ends.keys() - planned, key=int)
    if foreign:
        raise IntegrityError(
            f"{version.url_of(version.split_key(foreign[0]))}: of a split that the plan does not "
            "have; remove it with the split's blocks"
        )
    return ends


def _committed_blocks(
    version: Version, split_ids: Sequence[str], ends: Mapping[str, SplitEnd]
) -> list[str]:
    """Returns the blocks of all splits in order, of which every one is committed."""
    found = set(version.store.list(version.key("_meta/commits/")))
    # One after the other, as an end record may tell of more than fit into memory.
    every = (f"{split}-{seq:05d}" for split in split_ids for seq in range(ends[split].blocks))
    blocks: list[str] = []
    for block in every:
        if version.commit_key(block) not in found:
            total = sum(ends[split].blocks for split in split_ids)
            raise ResumableError(
                f"{version.url}: {total - _among(found, ends)} of {total} blocks are not "
                f"committed, the first is {block}; {_RESUME}"
            )
        blocks.append(block)
    _check_nothing_else(version, found, map(version.commit_key, blocks))
    return blocks


def _among(keys: Iterable[str], ends: Mapping[str, SplitEnd]) -> int:
    """Counts the keys of blocks that splits have."""
    blocks = (block_order(block) for block in map(block_of, keys) if block is not None)
    most = {int(split): end.blocks for split, end in ends.items()}
    return sum(seq < most.get(split, 0) for split, seq in blocks)


def _check_documents(version: Version, totals: Totals, ends: Mapping[str, SplitEnd]) -> None:
    for split, end in ends.items():
        if totals.documents[split] != end.documents:
            raise IntegrityError(
                f"{version.url_of(version.split_key(split))}: {end.documents} documents were read, "
                f"but its blocks account for {totals.documents[split]}; remove it and {_RESUME}"
            )


def _check_whole_documents(version: Version, totals: Totals) -> None:
    """Checks that a document of several blocks has rows in all of them, or is rejected in all."""
    rejected = {record.block_id for record in totals.with_rejects if not record.rows}
    for record in totals.continued:
        split, _, seq = record.block_id.partition("-")
        is_rejected = f"{split}-{int(seq) - 1:05d}" in rejected
        if is_rejected:
            rejected.add(record.block_id)
        if record.rejects or is_rejected == (record.rows > 0):
            raise ResumableError(
                f"{version.url_of(version.commit_key(record.block_id))}: of a document that is "
                f"rejected in some of its blocks only; {_RESUME}"
            )


def _check_listing(version: Version, folder: str, expected: set[str]) -> None:
    found = set(version.store.list(version.key(folder)))
    missing = sorted(expected - found)
    if missing:
        block = block_of(missing[0]) or ""
        record = f"_meta/commits/{block}.json"
        if version.store.size(version.commit_key(block)) is None:
            raise ResumableError(f"{version.url_of(missing[0])}: taken back meanwhile; {_RESUME}")
        raise IntegrityError(
            f"{version.url_of(missing[0])}: committed, but gone; restore it, or remove {record} "
            "and run the same command again"
        )
    _check_nothing_else(version, found, expected)


def _check_nothing_else(version: Version, found: Iterable[str], expected: Iterable[str]) -> None:
    foreign = sorted(set(found) - set(expected))
    if foreign:
        raise IntegrityError(
            f"{version.url_of(foreign[0])!r}: belongs to no committed block of the plan; "
            "move it out of the version"
        )
