"""What all blocks of a version say together: read run by run, by many processes, and added up.

The sums are exact, and runs depend on nothing but the number of blocks, so the same comes out
however many processes there were.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.finalize import runs_of
from embedkit.dataset.manifest import Part
from embedkit.dataset.processes import Each
from embedkit.dataset.rows import read_rows
from embedkit.dataset.stores import read_all
from embedkit.dataset.version import Version, block_of
from embedkit.encoders.hardware import usable_cores
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.hashes.repeats import HashFile, RepeatedHashes, range_count, repeated_in
from embedkit.reports.repeats import hash64
from embedkit.reports.statistics import Sidecar, Statistics
from embedkit.threads import GeneratorThreads

PARTS_AT_ONCE = 8
"""Parts that one process reads at the same time."""

_FEW_BLOCKS = 4096
"""Blocks that one process reads sooner than others are started."""


BlockParts = Sequence[tuple[str, Part | None]]
"""Blocks with their parts; a block without rows has none."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the sidecars and parts of all blocks say.

    Attributes:
        statistics: Their statistics, added in block order.
        repeated: The hashes of texts that more than one row has.
    """

    statistics: Statistics
    repeated: RepeatedHashes


@dataclass(frozen=True)
class _Run:
    """Consecutive blocks.

    Attributes:
        number: How many runs are before it.
        first_row: How many rows are before it.
        blocks: Each block with its part; a block without rows has none.
    """

    number: int
    first_row: int
    blocks: BlockParts


def processes_for(blocks: int) -> int:
    """Returns how many processes are worth starting for so many blocks."""
    return 1 if blocks < _FEW_BLOCKS else usable_cores()


def gather(version: Version, blocks: Sequence[str], parts: Sequence[Part], each: Each) -> Gathered:
    """Adds up the statistics of all blocks, and finds the texts that repeat.

    The local disk holds 12 bytes for each row meanwhile, and no process all of them.

    Args:
        version: The version, every block committed.
        blocks: Its blocks, in order.
        parts: Its parts, in order.
        each: Has runs of blocks read, here or in other processes.

    Raises:
        IntegrityError: A sidecar or part is damaged.
        StoreError: The store failed.
    """
    ranges = range_count(sum(part.rows for part in parts))
    by_block = {block_of(part.path) or "": part for part in parts}
    total = Statistics.empty()
    files: list[HashFile] = []
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        gathering = partial(_gather_run, version, Path(folder), ranges)
        for statistics, file in each(gathering, _runs(blocks, by_block)):
            total += statistics
            files.append(file)
        # Of no block at all there is no file.
        numbers = range(ranges if files else 0)
        repeated = sum(each(partial(repeated_in, files=files), numbers), RepeatedHashes())
    return Gathered(total, repeated)


def _runs(blocks: Sequence[str], by_block: Mapping[str, Part]) -> Iterator[_Run]:
    rows = 0
    for number, run in enumerate(runs_of(blocks)):
        with_parts = [(block, by_block.get(block)) for block in run]
        yield _Run(number, rows, with_parts)
        rows += sum(part.rows for _, part in with_parts if part is not None)


def _gather_run(
    version: Version, folder: Path, ranges: int, run: _Run
) -> tuple[Statistics, HashFile]:
    statistics, hashes = read_blocks(version, run.blocks)
    return statistics, HashFile.write(folder / f"{run.number}", hashes, run.first_row, ranges)


def read_blocks(version: Version, blocks: BlockParts) -> tuple[Statistics, NDArray[np.uint64]]:
    """Reads the sidecars of some blocks; of larger ones also the text hashes in the parts.

    Returns:
        The statistics of the blocks, and the hashes of the texts of all their rows.

    Raises:
        IntegrityError: A sidecar or part is damaged.
        StoreError: The store failed.
    """
    keys = [version.stats_key(block) for block, _ in blocks]
    statistics: list[Statistics] = []
    hashes: list[NDArray[np.uint64] | Part] = []
    for (block, part), (key, data) in zip(blocks, read_all(version.store, keys), strict=True):
        try:
            sidecar = Sidecar.from_json(data, block)
            statistics.append(sidecar.statistics)
            hashes.append(_text_hashes_of(sidecar, part))
        except ValueError as error:
            # What is no JSON was found before; this is JSON of another shape, or with other bytes.
            raise IntegrityError(
                f"{version.url_of(key)}: not the statistics that were written "
                f"({one_line(error)}); remove it and {version.url_of(version.commit_key(block))}, "
                "then run the same command again, which encodes its block anew"
            ) from error
    every = np.concatenate([*_read_hashes(version, hashes), np.empty(0, np.uint64)])
    return sum(statistics, Statistics.empty()), every


def _text_hashes_of(sidecar: Sidecar, part: Part | None) -> NDArray[np.uint64] | Part:
    """Returns the text hashes that a sidecar holds, or the part to be read for them."""
    rows = part.rows if part else 0
    found = sidecar.text_hashes
    if sidecar.rows != rows or (found is not None and len(found) != rows):
        raise ValueError(f"of {sidecar.rows} rows, where its part has {rows}")
    return part or np.empty(0, np.uint64) if found is None else found


def _read_hashes(
    version: Version, hashes: Sequence[NDArray[np.uint64] | Part]
) -> Iterator[NDArray[np.uint64]]:
    if not any(isinstance(found, Part) for found in hashes):
        yield from (found for found in hashes if not isinstance(found, Part))
        return

    def read(found: NDArray[np.uint64] | Part) -> NDArray[np.uint64]:
        if not isinstance(found, Part):
            return found
        return hash64(read_rows(version, found, ["text_hash"]).column("text_hash"))

    with GeneratorThreads(PARTS_AT_ONCE, thread_name_prefix="parts") as pool:
        yield from pool.map(read, hashes)
