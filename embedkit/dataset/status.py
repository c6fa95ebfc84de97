"""How far a version is, from its files alone: a few listings and small files, read at once."""

import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from embedkit.dataset.committed import commit_records, committed_blocks
from embedkit.dataset.growing import GrowingListing, Growth, Moment, standing_listing
from embedkit.dataset.heartbeat import BEAT_SECONDS, Heard, last_heard
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.plan_file import read_plan, standing_plan
from embedkit.dataset.removal import is_claimed
from embedkit.dataset.store_keys import normalize_root
from embedkit.dataset.stores import READERS, open_store, refused
from embedkit.dataset.version import Version, find_versions, is_version_name, split_of

_MOST_RECORDS = 1000
"""Commit records that are read beside the growing listing; of others, only their number is told."""

_MISSED_BEATS = 4
_MOST_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Status:
    """How far a version is.

    Attributes:
        version: Its name.
        url: Its path or URL.
        state: ``complete``; ``running``, as its heartbeat is fresh; ``stopped``; or ``removed``,
            by a prune at this moment, or one that was stopped.
        splits: Splits of its plan; None where that does not say.
        splits_ended: Those of them that were read to their end.
        blocks: Blocks that are committed.
        documents: Input records that the counts account for, rejects included.
        rows: Rows.
        rejects: Records that could not be embedded.
        tokens: Tokens of the rows as the model sees them.
        tokens_encoded: Tokens that were sent to encoders.
        rows_reused: Rows whose vectors were taken over from an earlier version.
        rows_encoded: The other rows.
        tokens_saved: Tokens of the former.
        blocks_uncounted: Committed blocks that the counts above lack, as nobody has listed them.
        share: Share of the input that is done, by bytes; None where that cannot be told.
        host: Name of the machine that wrote last; None where nobody said so.
        heartbeat_seconds: How long ago that was, as far as clocks agree.
        reuses: The earlier version whose vectors it takes over.
        rows_per_second: Over the last minutes; None where that cannot be told.
        tokens_per_second: The same of tokens as the model sees them.
        seconds_left: An estimate; None where that cannot be told.
    """

    version: str
    url: str
    state: str
    splits: int | None
    splits_ended: int
    blocks: int
    documents: int
    rows: int
    rejects: int
    tokens: int
    tokens_encoded: int
    rows_reused: int
    rows_encoded: int
    tokens_saved: int
    blocks_uncounted: int = 0
    share: float | None = None
    host: str | None = None
    heartbeat_seconds: float | None = None
    reuses: str | None = None
    rows_per_second: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return dict(vars(self))


def status_of(path: str | os.PathLike[str]) -> list[Status]:
    """Tells how far the versions at a path are.

    Args:
        path: A version; or a root, for all of its versions that are not complete, and the latest.

    Raises:
        ConfigError: There is no version.
        IntegrityError: A file that tells is damaged.
        StoreError: The store failed.
    """
    path = normalize_root(path)
    found = find_versions(path)
    if not any(one.url == Version(path, "v").root for one in found):
        unfinished = [one for one in _unfinished(path) if one not in found]
        found = [*unfinished, *found]
    return [status(version) for version in found]


def _unfinished(root: str) -> list[Version]:
    with refused("cannot read the dataset"):
        names = filter(is_version_name, open_store(root).folders())
    versions = [Version(root, name) for name in names]
    with ThreadPoolExecutor(READERS) as pool:
        grow = pool.map(lambda one: one.is_begun() and not one.is_complete(), versions)
        return [version for version, grows in zip(versions, grow, strict=True) if grows]


def status(version: Version, now: float | None = None) -> Status:
    """Tells how far a version is.

    Args:
        version: The version, which another machine may be writing at this moment.
        now: The time, in seconds since the epoch; unless given, it is asked for.

    Raises:
        IntegrityError: A file that tells is damaged.
        StoreError: The store failed.
    """
    if version.is_complete():
        return _complete(version)
    with ThreadPoolExecutor(READERS) as pool:
        heard = pool.submit(last_heard, version)
        claimed = pool.submit(is_claimed, version)
        planned = pool.submit(_bytes_by_split, version)
        ends = pool.submit(lambda: list(version.store.list(version.key("_meta/splits/"))))
        blocks = pool.submit(committed_blocks, version)
        listing = pool.submit(standing_listing, version)
    counted = _counted(version, listing.result(), blocks.result())
    ended = {split for split in map(split_of, ends.result()) if split is not None}
    share = _share(planned.result(), ended, blocks.result())
    now = time.time() if now is None else now
    # The version is complete by now, where it became so in the middle of this.
    if version.is_complete():
        return _complete(version)
    said = _heartbeat(heard.result(), now)
    state = "running" if said.pop("is_fresh") else "stopped"
    return Status(
        version=version.name,
        url=version.url,
        state="removed" if claimed.result() else state,
        splits=len(planned.result() or ()) or None,
        splits_ended=len(ended),
        blocks=len(blocks.result()),
        blocks_uncounted=len(blocks.result()) - counted.blocks,
        share=share,
        rows_encoded=counted.rows - counted.rows_reused,
        **{name: getattr(counted, name) for name in _COUNTED},
        **said,
        **(_rates(counted, share) if state == "running" else {}),
    )


_COUNTED = (
    "documents", "rows", "rejects", "tokens", "tokens_encoded", "rows_reused", "tokens_saved",
)  # fmt: skip


def _complete(version: Version) -> Status:
    manifest = read_manifest(version).to_dict()
    counts = {name: manifest.get(name, 0) for name in _COUNTED}
    return Status(
        version=version.name,
        url=version.url,
        state="complete",
        splits=manifest["splits"],
        splits_ended=manifest["splits"],
        blocks=manifest["blocks"],
        rows_encoded=counts["rows"] - counts["rows_reused"],
        share=1.0,
        **counts,
    )


def _counted(
    version: Version, listing: GrowingListing | None, blocks: Sequence[str]
) -> GrowingListing:
    """Returns the sums of the listing and of some blocks more that were committed since."""
    growth = Growth(version, {}, None)
    there = set(blocks)
    if listing is not None and listing.block_ids <= there:
        growth.go_on_from(listing)
    new = [block for block in blocks if block not in growth.blocks]
    try:
        growth.add(commit_records(version, new[:_MOST_RECORDS]))
    except FileNotFoundError:
        # A run that begins again has taken a block back at this moment.
        return growth.listing
    return growth.listing


def _bytes_by_split(version: Version) -> dict[str, int] | None:
    """Returns the bytes of each split of the plan; None where the plan names no splits."""
    try:
        stored = read_plan(version)
    except FileNotFoundError:
        return None
    if "splits" not in stored.corpus:
        return None
    plan = standing_plan(version, stored)
    sizes = {split.split_id: sum(piece.stored for piece in split.ranges) for split in plan.splits}
    return sizes or None


def _share(
    planned: Mapping[str, int] | None, ended: set[str], blocks: Sequence[str]
) -> float | None:
    """Estimates the share that is done: of a split in hand, by the blocks that others have."""
    if planned is None:
        return None
    total = sum(planned.values())
    if not total:
        # Rows of a pipeline, whose splits are equally large.
        return len(ended & planned.keys()) / len(planned)
    by_split = Counter(block.partition("-")[0] for block in blocks)
    done = sum(planned[split] for split in ended if split in planned)
    in_ended = sum(by_split[split] for split in ended)
    if in_ended:
        each = done / in_ended
        done += sum(
            min(planned.get(split, 0), round(each * count))
            for split, count in by_split.items()
            if split not in ended
        )
    return min(1.0, done / total)


def _heartbeat(heard: Heard | None, now: float) -> dict[str, Any]:
    if heard is None:
        return {"is_fresh": False}
    seconds = None if math.isinf(heard.at) else max(0.0, now - heard.at)
    interval = BEAT_SECONDS if heard.beat is None else heard.beat.interval
    return {
        "is_fresh": seconds is not None and seconds < _MISSED_BEATS * interval,
        "host": heard.beat and heard.beat.host,
        "reuses": heard.beat and heard.beat.reuses,
        "heartbeat_seconds": seconds,
    }


def _rates(listing: GrowingListing, share: float | None) -> dict[str, Any]:
    """Tells how fast the version grows, by the last moments without a pause between them."""
    moments: list[Moment] = []
    for moment in reversed(listing.moments):
        if moments and moments[-1].time - moment.time > _MOST_PAUSE_SECONDS:
            break
        moments.append(moment)
    if len(moments) < 2:
        return {}
    last, first = moments[0], moments[-1]
    seconds = last.time - first.time
    if seconds <= 0 or last.documents <= first.documents:
        return {}
    rates = {
        "rows_per_second": (last.rows - first.rows) / seconds,
        "tokens_per_second": (last.tokens - first.tokens) / seconds,
    }
    if share:
        left = listing.documents * (1 - share) / share
        rates["seconds_left"] = left * seconds / (last.documents - first.documents)
    return rates
