"""How many cores a process may use."""

import os

import pytest

from embedkit.encoders.hardware import usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", CORES),
        ("100000 100000\n", 1),
        ("20000 100000\n", 1),
        (f"{CORES * 100000 + 50000} 100000\n", CORES),
        (f"{(CORES - 1) * 100000 + 1} 100000\n", CORES),
    ],
)
def test_a_containers_quota_counts(tmp_path, quota, cores):
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(file) == cores


def test_without_a_quota_the_cores_of_the_process_count(tmp_path):
    assert usable_cores(tmp_path / "absent") == CORES
