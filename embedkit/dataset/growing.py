"""The growing listing: what of an unfinished version is committed, for readers who cannot wait.

It is replaced while the version grows and gone once that is complete, when the manifest says the
same. Every part that it names was committed before, so a listing that is old is still true.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from embedkit.dataset.committed import CommitRecord, commit_records, committed_blocks
from embedkit.dataset.finalize import Totals
from embedkit.dataset.manifest import COUNTS, Part
from embedkit.dataset.schema import FORMAT
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version, block_of, block_order
from embedkit.errors import IntegrityError
from embedkit.formats.json_record import Count, JsonRecord, LongRecord

_MOMENTS = 20
_AT_ONCE = 1024


@dataclass(frozen=True)
class Moment(JsonRecord):
    """How far a version was at some time, in seconds since the epoch."""

    time: float
    blocks: Count
    documents: Count
    rows: Count
    tokens: Count


@dataclass(frozen=True)
class GrowingListing(LongRecord):
    """What of a version is committed so far.

    Attributes:
        version: The version's name.
        time: When it was made, in seconds since the epoch by the writer's clock.
        seconds: What making it took, of which follows how soon the next is worth it.
        description: What made the vectors, as the manifest will say: recipe, dimension, ...
        splits: Number of splits of the plan; None where it is not known beforehand.
        blocks: Number of blocks.
        documents: Input records, each in a part or among the rejects.
        rows: Rows of all parts.
        rejects: Input records that could not be embedded.
        tokens: Tokens of all rows as the model saw them.
        tokens_encoded: Tokens that were sent to encoders.
        rows_reused: Rows whose vectors were taken over from an earlier version.
        tokens_saved: Their tokens.
        size: Bytes of all parts.
        parts: The parts in block order.
        without_rows: Blocks that have rejects at most.
        moments: How far it was at earlier times, the last few of them.
        complete: Never; the manifest stands then.
        format: Format of the version.
    """

    version: str
    time: float
    seconds: float
    description: dict[str, Any]
    splits: Count | None = None
    blocks: Count = 0
    documents: Count = 0
    rows: Count = 0
    rejects: Count = 0
    tokens: Count = 0
    tokens_encoded: Count = 0
    rows_reused: Count = 0
    tokens_saved: Count = 0
    size: Count = 0
    parts: tuple[Part, ...] = ()
    without_rows: tuple[str, ...] = ()
    moments: tuple[Moment, ...] = ()
    complete: Literal[False] = False
    format: Literal["1"] = FORMAT

    @property
    def block_ids(self) -> set[str]:
        """The blocks that it counts."""
        return {block_of(part.path) or "" for part in self.parts} | set(self.without_rows)


def growing_listing(version: Version) -> GrowingListing | None:
    """Returns what a reader of an unfinished version may trust.

    Every part of it is committed, whole, and never changes while the version grows. It may lack
    parts that were committed since it was made.

    Returns:
        None where the version is complete, so that its manifest says all; where nothing is
        committed yet; or where an earlier release writes it.

    Raises:
        IntegrityError: It is not what was written.
        StoreError: The store failed.
    """
    listing = standing_listing(version)
    if listing is None or version.is_complete():
        return None
    # A run that is resumed takes back what it finds damaged, and has then to list anew.
    there = dict(version.store.sizes(version.key("data/")))
    parts = [part for part in listing.parts if there.get(version.key(part.path)) == part.size]
    if len(parts) == len(listing.parts):
        return listing
    rows, size = sum(part.rows for part in parts), sum(part.size for part in parts)
    blocks = len(parts) + len(listing.without_rows)
    return replace(listing, parts=tuple(parts), rows=rows, size=size, blocks=blocks)


def standing_listing(version: Version) -> GrowingListing | None:
    """Returns the listing as it stands, or None where there is none.

    Raises:
        IntegrityError: It is not what was written.
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.growing_key)
    try:
        return None if data is None else GrowingListing.parse(data)
    except ValueError as error:
        raise IntegrityError(
            f"{version.url_of(version.growing_key)}: {error}; remove it, a run of the version's "
            "job writes it anew"
        ) from error


class Growth:
    """Adds up what is committed to a version, and reads nothing twice.

    Args:
        version: A version that is not complete.
        description: What its manifest will say of the vectors.
        splits: Number of splits of its plan, where it is known.
    """

    def __init__(
        self, version: Version, description: Mapping[str, Any], splits: int | None
    ) -> None:
        self._version = version
        self._begun = GrowingListing(version.name, 0.0, 0.0, dict(description), splits)
        self._listing = self._begun
        self._blocks: set[str] = set()

    @property
    def listing(self) -> GrowingListing:
        """What was added up."""
        return self._listing

    @property
    def blocks(self) -> set[str]:
        """The blocks that were added."""
        return self._blocks

    def go_on_from(self, listing: GrowingListing | None) -> None:
        """Takes over what another process has added up, or begins anew."""
        self._listing = listing or self._begun
        self._blocks = self._listing.block_ids

    def add(self, records: Iterable[CommitRecord]) -> None:
        """Adds the commit records of blocks, of which none was added before."""
        found = [record for record in records if record.block_id not in self._blocks]
        totals, now = Totals.of(found), self._listing
        reused = [record.reused for record in found if record.reused is not None]
        # Whatever a counter of a manifest counts, where a listing has it.
        sums = {
            name: getattr(now, name) + totals.counts[name] for name in COUNTS if hasattr(now, name)
        }
        self._blocks.update(record.block_id for record in found)
        self._listing = replace(
            now,
            **sums,
            blocks=len(self._blocks),
            rows_reused=now.rows_reused + sum(one.rows for one in reused),
            tokens_saved=now.tokens_saved + sum(one.tokens for one in reused),
            size=now.size + sum(part.size for part in totals.parts),
            parts=tuple(sorted((*now.parts, *totals.parts), key=_place)),
            without_rows=(
                *now.without_rows,
                *(record.block_id for record in found if record.part is None),
            ),
        )

    def look(self) -> None:
        """Adds what was committed since.

        Raises:
            IntegrityError: A commit record is damaged.
            FileNotFoundError: A commit record was taken back at this moment.
            StoreError: The store failed.
        """
        new = [block for block in committed_blocks(self._version) if block not in self._blocks]
        for start in range(0, len(new), _AT_ONCE):
            self.add(commit_records(self._version, new[start : start + _AT_ONCE]))

    def write(self, now: float, seconds: float) -> None:
        """Replaces the listing by what was added up, unless that is nothing.

        Args:
            now: The time, in seconds since the epoch.
            seconds: What adding up took.

        Raises:
            StoreError: The store failed.
        """
        listing = self._listing
        if not listing.blocks:
            return
        moment = Moment(now, listing.blocks, listing.documents, listing.rows, listing.tokens)
        moments = (*listing.moments, moment)[-_MOMENTS:]
        self._listing = replace(listing, time=now, seconds=seconds, moments=moments)
        self._version.store.replace(self._version.growing_key, self._listing.to_json())


def _place(part: Part) -> tuple[int, int]:
    return block_order(block_of(part.path) or "0-0")
