"""Repeated hashes in buckets and files, held against collections.Counter."""

from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pytest

from embedkit.hashes import repeats
from embedkit.hashes.repeats import (
    PlacedHashes,
    RepeatedHash,
    RepeatedHashes,
    bucket_count,
    repeated_in,
    write_hashes,
)


def places(random, count: int, distinct: int) -> dict[int, np.ndarray]:
    """Hashes that repeat often, spread over the whole range, by place; one place has none."""
    values = random.integers(0, 1 << 64, distinct, np.uint64)
    found = {place: random.choice(values, random.integers(1, 60)) for place in range(count)}
    return {**found, count // 2: np.empty(0, np.uint64)}


def expected(by_place: dict[int, np.ndarray]) -> RepeatedHashes:
    counts = Counter(value for hashes in by_place.values() for value in hashes.tolist())
    first: dict[int, int] = {}
    for place in sorted(by_place):
        for value in by_place[place].tolist():
            first.setdefault(value, place)
    several = {value: count for value, count in counts.items() if count > 1}
    most = sorted(several, key=lambda value: (-several[value], value))[: repeats.TOP]
    top = tuple(RepeatedHash(value, several[value], first[value]) for value in most)
    return RepeatedHashes(sum(several.values()), len(several), top)


@pytest.mark.parametrize("buckets", [1, 2, 64])
@pytest.mark.parametrize("files", [1, 3, 7])
@pytest.mark.parametrize(("count", "distinct"), [(40, 5), (40, 500), (3, 100_000)])
def test_what_is_found_does_not_depend_on_files_and_buckets(
    tmp_path, buckets, files, count, distinct
):
    by_place = places(np.random.default_rng(distinct), count, distinct)
    written = [
        write_hashes(
            PlacedHashes.of(list(by_place.items())[number::files]), buckets, tmp_path / f"{number}"
        )
        for number in range(files)
    ]
    found = [repeated_in(bucket, written) for bucket in range(buckets)]
    assert reduce(add, found) == reduce(add, reversed(found)) == expected(by_place)


def test_the_extremes_are_in_the_outermost_buckets(tmp_path):
    ends = np.array([0, (1 << 64) - 1] * 2, np.uint64)
    file = write_hashes(PlacedHashes.of([(9, ends)]), 8, tmp_path / "ends")
    found = [repeated_in(bucket, [file]) for bucket in range(8)]
    assert [one.hashes for one in found] == [1, 0, 0, 0, 0, 0, 0, 1]
    assert found[7].top == (RepeatedHash((1 << 64) - 1, 2, 9),)


def test_nothing_repeats_of_nothing_and_of_distinct_hashes(tmp_path):
    for hashes in (np.empty(0, np.uint64), np.arange(1000, dtype=np.uint64) << np.uint64(50)):
        file = write_hashes(PlacedHashes.of([(0, hashes)]), 4, tmp_path / "file")
        assert reduce(add, (repeated_in(bucket, [file]) for bucket in range(4))) == (
            RepeatedHashes()
        )


@pytest.mark.parametrize(
    ("hashes", "buckets"),
    [(0, 1), (1 << 21, 1), ((1 << 21) + 1, 2), (800_000_000, 512), (1 << 60, 4096)],
)
def test_a_bucket_fits_into_memory(hashes, buckets):
    assert bucket_count(hashes) == buckets
