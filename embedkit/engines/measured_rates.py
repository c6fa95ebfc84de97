"""How fast goes what stands beside encoding, as it was measured: here and nowhere else.

All of it was measured on machines of two cores and is in tests/benchmarks/RESULTS.md, under the
heading that each constant names. What one core does for a token is in ``HostWork``.
"""

from typing import Final

PLAN_SECONDS_PER_FILE: Final = 6.0 / 100_000
"""Of one process that plans files of its own disk: "Repeated ids and many small files"."""

ID_START_SECONDS: Final = 0.9
ID_SECONDS_PER_RECORD: Final = 11.1 / 11_520_000
"""Of one worker that looks for repeated ids, its start and the merging left out: the same."""

ID_MERGE_SECONDS_PER_RECORD: Final = 0.1 / 1_000_000
"""Of the driver, which merges their hashes: the same."""

FINISH_SECONDS_PER_BLOCK: Final = 28.7 / 100_000
"""From the last commit to the complete version: "Completing a version of many blocks"."""

FINISH_SECONDS_PER_ROW: Final = (10.4 - 5.7) / (10_000 * (1_024 - 64))
"""Of a core, what blocks of 1,024 rows take more than blocks of 64 rows: the same."""

PART_BYTES_PER_ROW: Final = 55
"""Ids that are derived, hashes and places, beside vector and text: the same."""

BYTES_PER_BLOCK: Final = 12_000
"""A part's metadata, its statistics and its commit record, of a block of 8,192 rows: the same."""

EXAMINE_SECONDS_PER_ROW: Final = 40e-6
"""Of a core that reads rows once more for the report; see ``embedkit.flow.examine``."""

NEAR_SECONDS_PER_ROW: Final = 33.1 / 100_000
"""Of a core that looks for near duplicates: "Near duplicates among 100,000 rows"."""

MAP_SECONDS: Final = 31.0
MAP_ROWS: Final = 25_000
"""Of a core that makes a report's first map, of so many rows of a larger version: "Maps"."""

ID_BYTES_PER_RECORD: Final = 8
"""What is kept of each id, to find those that repeat."""
