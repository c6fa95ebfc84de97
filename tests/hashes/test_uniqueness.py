"""Hashes that repeat, in memory and by way of the disk."""

import itertools
import os
import tempfile
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.hashes.uniqueness import repeated

hashes = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**56, 2**63, 2**64 - 1]))


@given(st.lists(st.lists(hashes, max_size=20), max_size=8), st.integers(0, 100))
def test_as_a_counter_counts(arrays: list[list[int]], in_memory: int) -> None:
    found = repeated((np.array(one, dtype=np.uint64) for one in arrays), in_memory)
    wanted = {one: n for one, n in Counter(itertools.chain(*arrays)).items() if n > 1}
    assert found.hashes.tolist() == sorted(wanted)
    assert found.counts.tolist() == [wanted[one] for one in sorted(wanted)]
    assert (found.hashes.dtype, found.counts.dtype) == (np.uint64, np.int64)


@pytest.mark.parametrize("in_memory", [50_000, 10_000_000])
def test_as_duckdb_counts(in_memory: int) -> None:
    numbers = np.random.default_rng(3).integers(0, 300_000, 500_000).astype(np.uint64)
    values = numbers * np.uint64(0x9E3779B97F4A7C15)
    found = repeated(np.array_split(values, 37), in_memory)
    counted = duckdb.from_arrow(pa.table({"v": values})).aggregate("v, count(*) as n")
    wanted = counted.filter("n > 1").order("v").fetchall()
    assert list(zip(found.hashes.tolist(), found.counts.tolist(), strict=True)) == wanted
    assert len(wanted) > 100_000


def test_the_disk_is_used_beyond_memory_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def arrays():
        for start in range(0, 5000, 100):
            seen.append(sum(len(files) for _, _, files in os.walk(tmp_path)))
            yield np.arange(start, start + 100, dtype=np.uint64) << np.uint64(48)

    assert len(repeated(arrays(), 10_000).hashes) == 0
    assert max(seen) == 0
    seen.clear()
    assert len(repeated(arrays(), 1000).hashes) == 0
    assert max(seen) > 0
    assert list(tmp_path.iterdir()) == []
