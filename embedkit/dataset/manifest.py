"""From committed blocks to a complete version: reconcile, describe, seal."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator

from embedkit.dataset.commit import (
    CommitRecord,
    SplitEnd,
    commit_records,
    committed,
    ended_splits,
)
from embedkit.dataset.identity import add_digests
from embedkit.dataset.publication import is_published
from embedkit.dataset.rejects import reject_reasons
from embedkit.dataset.schema import FORMAT
from embedkit.dataset.stores import create
from embedkit.dataset.version import Version, block_of, planned_splits
from embedkit.errors import ConfigError, IntegrityError, ResumableError
from embedkit.formats.canonical import canonical_json, checksum_holds, sha256, with_checksum
from embedkit.formats.json_record import Count, JsonRecord

REQUIRED = ("dimension", "metric", "normalized")
"""What a description must say, because readers of the vectors depend on it."""

COUNTS = (
    "documents", "rows", "rejects", "tokens", "n_tokens", "tokens_encoded", "truncated", "nulled",
)  # fmt: skip
"""What commit records and manifests count."""

_SETTLED = (*COUNTS, "id_digest", "size", "parts", "splits", "blocks")
CHANGED = "changed after the version was completed, or _SUCCESS was"
MANIFEST_ANEW = "restore it, or remove it and run the version's job again, which writes it anew"

_PART = re.compile(r"data/part-\d{5,}-\d{5,}\.parquet")
_RESUME = "run the same command again to resume"


def _part_path(path: str) -> str:
    if not _PART.fullmatch(path):
        raise ValueError("a part with another name than parts have")
    return path


@dataclass(frozen=True)
class Part(JsonRecord):
    """A Parquet file of a version.

    Attributes:
        path: Relative to the version.
        size: In bytes.
        sha256: As hex.
        rows: Number of rows.
    """

    path: Annotated[str, AfterValidator(_part_path)]
    size: Count
    sha256: str
    rows: Count


@dataclass(frozen=True)
class Manifest(JsonRecord):
    """What a complete version is.

    Attributes:
        version: The version's name.
        description: What made the vectors: model, fingerprint, dimension, metric, normalized, ...
        documents: Input records, each of them in a part or among the rejects.
        rows: Rows of all parts.
        rejects: Input records that could not be embedded.
        tokens: Tokens of all rows as the model saw them.
        n_tokens: Tokens of all rows before truncation.
        tokens_encoded: Tokens that were sent to encoders for all blocks.
        truncated: Rows that were longer than the model sees.
        size: Bytes of all parts.
        id_digest: Digest of the set of all ids.
        splits: Number of splits.
        blocks: Number of blocks.
        parts: The parts in block order.
        reject_reasons: The rejects by their reason; versions of the first release have none.
        nulled: Metadata values that did not fit their columns and became null.
        lines: What the lines of text, JSONL, CSV and TSV files were, see ``LineCounts``; versions
            of the first release have none.
        input_format: The format that the inputs were said to have, which tells what ``row_index``
            counts; empty where there were no files, and in versions of the first release.
        line_ranges: Of each file of lines that was read in several ranges, where each begins, and
            the lines of the file before it, which turns ``line_in_range`` into a line of the file.
        format: Format of the version.
    """

    version: str
    description: dict[str, Any]
    documents: Count
    rows: Count
    rejects: Count
    tokens: Count
    n_tokens: Count
    tokens_encoded: Count
    truncated: Count
    size: Count
    id_digest: str
    splits: Count
    blocks: Count
    parts: tuple[Part, ...]
    reject_reasons: dict[str, Count] = field(default_factory=dict)
    nulled: Count = 0
    lines: dict[str, Count] = field(default_factory=dict)
    input_format: str = ""
    line_ranges: dict[str, list[list[Count]]] = field(default_factory=dict)
    format: Literal["1"] = FORMAT

    def to_json(self) -> bytes:
        """Serializes the manifest in one way only."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Reads a manifest.

        Raises:
            IntegrityError: It is not a manifest of this format.
        """
        try:
            found = cls.parse(data)
            missing = [name for name in REQUIRED if name not in found.description]
            if missing:
                raise ValueError(f"no {', '.join(missing)}")
            return found
        except ValueError as error:
            raise IntegrityError(
                f"{name}: not a manifest of format {FORMAT} ({error}); {MANIFEST_ANEW}"
            ) from error


def finalize(
    version: Version, split_ids: Sequence[str], description: Mapping[str, Any]
) -> Manifest:
    """Checks that nothing of the plan is missing from a version and nothing else is in it.

    Nothing is written, so it may be asked any number of times.

    Args:
        version: The version whose splits have all been worked on.
        split_ids: The splits of its plan.
        description: JSON values for the manifest; ``dimension``, ``metric`` and ``normalized``
            must be among them.

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
    blocks = [f"{split}-{seq:05d}" for split in split_ids for seq in range(ends[split].blocks)]
    _check_committed(version, blocks)
    totals = _Totals()
    with_rejects = []
    for record in _checked_by_split(version, commit_records(version, blocks), ends):
        totals.add(record)
        if record.rejects:
            with_rejects.append(record)
    _check_listing(version, "data/", {version.key(part.path) for part in totals.parts})
    _check_listing(version, "rejects/", set(map(version.reject_key, totals.blocks_with_rejects)))
    _check_listing(version, "_meta/stats/", set(map(version.stats_key, blocks)))
    return Manifest(
        version=version.name,
        description=dict(description),
        **totals.counts,
        size=sum(part.size for part in totals.parts),
        id_digest=totals.id_digest,
        splits=len(split_ids),
        blocks=len(blocks),
        parts=tuple(totals.parts),
        reject_reasons=reject_reasons(version, with_rejects),
        lines={},
        input_format="",
        line_ranges={},
    )


def seal(version: Version, manifest: Manifest, card: str) -> Manifest:
    """Makes a version complete; from here on it does not change.

    Args:
        version: A version whose reports, if any, have been written.
        manifest: What ``finalize`` returned.
        card: The dataset card.

    Returns:
        The manifest that stands. Of a version that is complete already, nothing is changed.

    Raises:
        IntegrityError: Another manifest of other parts stands.
        StoreError: The store failed; the same call again is safe.
    """
    if not version.is_complete():
        store = version.store
        store.replace(version.card_key, card.encode())
        create(store, version.manifest_key, manifest.to_json())
        data = store.read(version.manifest_key)
        standing = Manifest.from_json(data, version.url_of(version.manifest_key))
        if any(getattr(standing, name) != getattr(manifest, name) for name in _SETTLED):
            other = "says other counts" if standing.parts == manifest.parts else "lists other parts"
            raise IntegrityError(
                f"{version.url_of(version.manifest_key)}: {other} than are committed; "
                f"remove it, then {_RESUME}"
            )
        # The first release kept its numbers here, and reads this one when it publishes.
        mark = {"manifest_sha256": sha256(data), "number": 0, "card_sha256": sha256(card.encode())}
        create(store, version.success_key, canonical_json(with_checksum(mark)))
    return read_manifest(version)


def read_manifest(version: Version) -> Manifest:
    """Reads the manifest of a complete version.

    Raises:
        ConfigError: The version is not complete.
        IntegrityError: The manifest is damaged.
        StoreError: The store failed.
    """
    if not version.is_complete():
        raise ConfigError(f"{version.url}: not complete yet; run its job to the end first")
    data = version.store.read(version.manifest_key)
    manifest = Manifest.from_json(data, version.url_of(version.manifest_key))
    expected = read_mark(version).get("manifest_sha256")
    if expected != sha256(data):
        raise IntegrityError(f"{version.url_of(version.manifest_key)}: {CHANGED}; {MANIFEST_ANEW}")
    return manifest


def read_mark(version: Version) -> dict[str, Any]:
    """Reads the mark of a complete version.

    Raises:
        IntegrityError: It is damaged.
        StoreError: The store failed.
    """
    try:
        mark = json.loads(version.store.read(version.success_key))
        if isinstance(mark["manifest_sha256"], str) and checksum_holds(mark):
            return dict(mark)
        raise ValueError("not a mark, or changed since")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{version.url_of(version.success_key)}: not what embedkit wrote; remove it and run "
            "the version's job again, which writes it anew"
        ) from error


def restore_card(version: Version, card: str) -> None:
    """Writes the card of a complete version anew, and its checksum into the mark.

    Raises:
        IntegrityError: The mark is damaged.
        StoreError: The store failed; the same call again is safe.
    """
    mark = read_mark(version)
    version.store.replace(version.card_key, card.encode())
    if "card_sha256" in mark and mark["card_sha256"] != sha256(card.encode()):
        # By another release, which writes other cards.
        changed = mark | {"card_sha256": sha256(card.encode())}
        version.store.replace(version.success_key, canonical_json(with_checksum(changed)))


def describe(version: Version) -> dict[str, Any]:
    """Describes a version for a person; one that is still growing by what is committed so far.

    Raises:
        IntegrityError: A record or the manifest is damaged.
        StoreError: The store failed.
    """
    complete = version.is_complete()
    described: dict[str, Any] = {
        "version": version.name,
        "url": version.url,
        "complete": complete,
        "published": is_published(version),
    }
    if complete:
        manifest = read_manifest(version).to_dict()
        description: dict[str, Any] = manifest.pop("description")
        del manifest["format"]
        return described | manifest | {"parts": len(manifest["parts"])} | description
    totals = _Totals()
    for record in committed(version).values():
        totals.add(record)
    return described | {
        **totals.counts,
        "size": sum(part.size for part in totals.parts),
        "splits": planned_splits(version),
        "splits_ended": len(ended_splits(version)),
        "blocks": totals.blocks,
        "parts": len(totals.parts),
    }


class _Totals:
    """Adds up commit records."""

    def __init__(self) -> None:
        self.counts: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        self.id_digest = add_digests([])
        self.blocks = 0
        self.parts: list[Part] = []
        self.blocks_with_rejects: list[str] = []

    def add(self, record: CommitRecord) -> None:
        for name in COUNTS:
            self.counts[name] += getattr(record, name)
        self.id_digest = add_digests([self.id_digest, record.id_digest])
        self.blocks += 1
        if record.part is not None:
            self.parts.append(Part(record.part, record.size, record.sha256, record.rows))
        if record.rejects:
            self.blocks_with_rejects.append(record.block_id)


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


def _check_committed(version: Version, blocks: Sequence[str]) -> None:
    found = set(version.store.list(version.key("_meta/commits/")))
    expected = dict.fromkeys(map(version.commit_key, blocks))
    missing = [key for key in expected if key not in found]
    if missing:
        raise ResumableError(
            f"{version.url}: {len(missing)} of {len(blocks)} blocks are not committed, the first "
            f"is {block_of(missing[0])}; {_RESUME}"
        )
    _check_nothing_else(version, found, expected)


def _checked_by_split(
    version: Version, records: Iterable[CommitRecord], ends: Mapping[str, SplitEnd]
) -> Iterator[CommitRecord]:
    documents = dict.fromkeys(ends, 0)
    for record in records:
        documents[record.block_id.partition("-")[0]] += record.documents
        yield record
    for split, end in ends.items():
        if documents[split] != end.documents:
            raise IntegrityError(
                f"{version.url_of(version.split_key(split))}: {end.documents} documents were read, "
                f"but its blocks account for {documents[split]}; remove it and {_RESUME}"
            )


def _check_listing(version: Version, folder: str, expected: set[str]) -> None:
    found = set(version.store.list(version.key(folder)))
    missing = sorted(expected - found)
    if missing:
        block = block_of(missing[0])
        record = f"_meta/commits/{block}.json"
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
