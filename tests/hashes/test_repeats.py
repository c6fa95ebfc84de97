"""Repeated hashes in ranges and files, held against collections.Counter."""

from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pytest

from embedkit.hashes import repeats
from embedkit.hashes.repeats import (
    HashFile,
    RepeatedHash,
    RepeatedHashes,
    range_count,
    repeated_in,
)


def sequence(length: int, distinct: int) -> np.ndarray:
    """Hashes of which each occurs some times, by chance."""
    random = np.random.default_rng(distinct)
    return random.choice(random.integers(0, 1 << 64, distinct, np.uint64), length)


def expected(hashes: np.ndarray) -> RepeatedHashes:
    values = hashes.tolist()
    several = {value: count for value, count in Counter(values).items() if count > 1}
    most = sorted(several, key=lambda value: (-several[value], value))[: repeats.TOP]
    top = tuple(RepeatedHash(value, several[value], values.index(value)) for value in most)
    return RepeatedHashes(sum(several.values()), len(several), top)


@pytest.mark.parametrize("ranges", [1, 2, 64])
@pytest.mark.parametrize("cuts", [(), (500, 500), (1, 2, 700, 999)])
@pytest.mark.parametrize("distinct", [5, 400, 100_000])
def test_what_is_found_does_not_depend_on_files_and_ranges(tmp_path, ranges, cuts, distinct):
    hashes = sequence(1000, distinct)
    files = [
        HashFile.write(tmp_path / f"{start}-{stop}", hashes[start:stop], start, ranges)
        for start, stop in zip((0, *cuts), (*cuts, 1000), strict=True)
    ]
    # Files are read in whatever order they are named.
    found = [repeated_in(number, files[::-1]) for number in range(ranges)]
    assert reduce(add, found) == reduce(add, reversed(found)) == expected(hashes)


def test_the_extremes_are_in_the_outermost_ranges(tmp_path):
    ends = np.array([0, (1 << 64) - 1] * 2, np.uint64)
    file = HashFile.write(tmp_path / "ends", ends, 9, 8)
    found = [repeated_in(number, [file]) for number in range(8)]
    assert [one.hashes for one in found] == [1, 0, 0, 0, 0, 0, 0, 1]
    assert found[7].top == (RepeatedHash((1 << 64) - 1, 2, 10),)


@pytest.mark.parametrize(
    ("hashes", "ranges"),
    [(0, 1), (1 << 21, 1), ((1 << 21) + 1, 2), (800_000_000, 512), (1 << 60, 4096)],
)
def test_a_range_fits_into_memory(hashes, ranges):
    assert range_count(hashes) == ranges
