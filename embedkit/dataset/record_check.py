"""The commit records and end records of a version, each read by itself, so that each is named."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from embedkit.dataset.committed import CommitRecord, SplitEnd, checked_end, checked_record
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.parquet import RESTORE
from embedkit.dataset.stores import read_all
from embedkit.dataset.version import Version, block_of, block_order, split_of
from embedkit.errors import IntegrityError

_Record = TypeVar("_Record", CommitRecord, SplitEnd)

_MOST_GONE = 100_000
"""Blocks of a split that may be gone and be named one by one."""

AGAIN = "run the version's job again, which makes it anew"


@dataclass
class Records:
    """The records of a version.

    Attributes:
        commits: Those that could be read, in block order.
        ends: The same of the splits.
        problems: A line for each that is damaged, gone, or does not add up.
        blocks: Blocks that there must be, whose record is damaged or gone.
        splits: The same of the splits.
    """

    commits: dict[str, CommitRecord]
    ends: dict[str, SplitEnd]
    problems: list[str]
    blocks: set[str]
    splits: set[str]

    @property
    def whole(self) -> bool:
        """Whether every record could be read."""
        return not self.blocks and not self.splits


def read_records(version: Version, manifest: Manifest) -> Records:
    """Reads all records of a complete version.

    Raises:
        StoreError: The store failed.
    """
    problems: list[str] = []
    commits, blocks = _read(version, "commits", checked_record, problems)
    ends, splits = _read(version, "splits", checked_end, problems)
    found = Records(commits, ends, problems, blocks, splits)
    _find_gone(found, version, manifest)
    _compare(found, version)
    return found


def _read(
    version: Version,
    folder: str,
    check: Callable[[Version, str, str, bytes], _Record],
    problems: list[str],
) -> tuple[dict[str, _Record], set[str]]:
    """Reads the records of a folder: those that could be read, and the names of the others."""
    name_of = block_of if folder == "commits" else split_of
    keys = version.store.list(version.key(f"_meta/{folder}/"))
    named = [(name, key) for key in keys if (name := name_of(key)) is not None]
    named.sort(key=lambda one: tuple(map(int, one[0].split("-"))))
    read = read_all(version.store, (key for _, key in named))
    records: dict[str, _Record] = {}
    damaged = set()
    for (name, key), (_, data) in zip(named, read, strict=True):
        try:
            records[name] = check(version, name, key, data)
        except IntegrityError as error:
            problems.append(str(error))
            damaged.add(name)
    return records, damaged


def _find_gone(found: Records, version: Version, manifest: Manifest) -> None:
    _leave_out_boundless(found, version)
    ended = {
        f"{end.split_id}-{seq:05d}" for end in found.ends.values() for seq in range(end.blocks)
    }
    listed = {block for part in manifest.parts if (block := block_of(part.path)) is not None}
    for block in sorted((ended | listed) - found.commits.keys() - found.blocks, key=block_order):
        found.blocks.add(block)
        found.problems.append(f"{version.url_of(version.commit_key(block))}: gone; {AGAIN}")
    # Of a split whose end is known, no other block is its own.
    begun = {split for block in found.commits if (split := block.partition("-")[0])}
    for split in sorted(begun - found.ends.keys() - found.splits, key=int):
        found.splits.add(split)
        found.problems.append(f"{version.url_of(version.split_key(split))}: gone; {AGAIN}")
    for block in list(found.commits):
        if block not in ended and block.partition("-")[0] in found.ends:
            del found.commits[block]


def _leave_out_boundless(found: Records, version: Version) -> None:
    """Takes no end at its word that tells of far more blocks than there are."""
    there = Counter(block.partition("-")[0] for block in (*found.commits, *found.blocks))
    for split, end in list(found.ends.items()):
        gone = end.blocks - there[split]
        if gone > _MOST_GONE:
            del found.ends[split]
            found.splits.add(split)
            found.problems.append(
                f"{version.url_of(version.split_key(split))}: {end.blocks} blocks, of which {gone} "
                f"are gone; {RESTORE}"
            )


def _compare(found: Records, version: Version) -> None:
    if not found.whole:
        return
    documents = dict.fromkeys(found.ends, 0)
    for block, record in found.commits.items():
        documents[block.partition("-")[0]] += record.documents
    for split, end in found.ends.items():
        if documents[split] != end.documents:
            found.problems.append(
                f"{version.url_of(version.split_key(split))}: {end.documents} documents, but its "
                f"blocks account for {documents[split]}; {RESTORE}"
            )
