"""How many requests a run sends to object stores, counted before it sends any.

The figures are those of the code: what tests/engines/test_requests.py counts on the wire of a run.
Removals, which cost nothing on the usual stores, are left out, as are the requests of near
duplicates, which leave rows for each other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from embedkit.corpus.opening import FETCH_BYTES
from embedkit.dataset.heartbeat import BEAT_SECONDS
from embedkit.flow.examine import MOST_BLOCKS
from embedkit.reports.statistics import MOST_HASHES

KEYS_PER_LISTING: Final = 1000
"""Keys that one answer of a store to a listing has."""

_GETS_TO_PLAN: Mapping[str, int] = {"parquet": 2, "json": 3, "csv": 3, "tsv": 3}


@dataclass(frozen=True)
class StoredWork:
    """What decides how often stores are asked.

    Attributes:
        files: Input files.
        formats: The share of each format among them.
        input_bytes: Their bytes as stored.
        splits: Splits.
        blocks: Blocks.
        rejecting_blocks: Blocks with rejects.
        block_rows: Rows of a block.
        looks_at_ids: Whether repeated ids are looked for.
    """

    files: int
    formats: Mapping[str, float]
    input_bytes: int
    splits: int
    blocks: int
    rejecting_blocks: int
    block_rows: float
    looks_at_ids: bool


@dataclass(frozen=True)
class Requests:
    """How often stores are asked.

    Attributes:
        put: Objects that are written.
        list: Listings, each answer of which has ``KEYS_PER_LISTING`` keys at most.
        get: Objects, or ranges of them, that are read or looked for.
    """

    put: int
    list: int
    get: int

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(self.put + other.put, self.list + other.list, self.get + other.get)


_PARTS_SHOWN = 16
"""Parts of which rows are shown one by one, at most."""

_ONCE = Requests(put=16, list=13, get=53)
"""Of a version, however large: probe, plan, heartbeat, report, card, manifest, ``LATEST``."""


def input_requests(work: StoredWork) -> Requests:
    """Returns what the store of the input files is asked, from the plan to the last block."""
    reading = 2 * max(work.files, work.splits) + work.input_bytes // FETCH_BYTES
    looks = 2 if work.looks_at_ids else 1
    return Requests(0, _pages(work.files), round(gets_to_plan(work)) + looks * reading)


def gets_to_plan(work: StoredWork) -> float:
    """Returns the requests by which the input files are looked at while a run is planned."""
    return work.files * sum(
        share * _GETS_TO_PLAN.get(name, 1) for name, share in work.formats.items()
    )


def output_requests(work: StoredWork, seconds: float = 0.0) -> Requests:
    """Returns what the store of the version is asked, from its first object to ``LATEST``.

    Args:
        work: The run.
        seconds: How long it takes, as a heartbeat comes every so often.
    """
    beats = int(seconds / BEAT_SECONDS)
    found = running_requests(work) + finishing_requests(work)
    # The listing that grows beside the heartbeat reads each commit record once.
    found += Requests(2 * beats, 2 * beats, work.blocks if beats else 0)
    return found + _ONCE


def running_requests(work: StoredWork) -> Requests:
    """Returns what is asked while blocks are embedded, and before."""
    # Part, statistics and record of each block, and the look whether that record stands.
    blocks = Requests(3 * work.blocks + work.rejecting_blocks, 0, work.blocks)
    splits = Requests(work.splits, work.splits, 0)
    ids = Requests(work.splits + 1, 2 * _pages(work.splits), work.splits + 2)
    return blocks + splits + (ids if work.looks_at_ids else Requests(0, 0, 0))


def finishing_requests(work: StoredWork) -> Requests:
    """Returns what is asked when all blocks are committed."""
    # Records, statistics and parts; ends of splits; rejects.
    listings = (5 + 3 + 2) * _pages(work.blocks)
    listings += 4 * _pages(work.splits) + 3 * _pages(work.rejecting_blocks)
    records = 2 * work.blocks + 2 * work.splits + 2 * work.rejecting_blocks
    return Requests(0, listings, records + hash_gets(work) + examining_gets(work))


def hash_gets(work: StoredWork) -> int:
    """Returns the requests by which the hashes of texts are read from parts."""
    return 2 * work.blocks if work.block_rows > MOST_HASHES else 0


def examining_gets(work: StoredWork) -> int:
    """Returns the requests by which rows are read once more for the report."""
    return 3 * min(work.blocks, MOST_BLOCKS) + min(work.blocks, _PARTS_SHOWN)


def _pages(keys: int) -> int:
    return max(1, math.ceil(keys / KEYS_PER_LISTING))
