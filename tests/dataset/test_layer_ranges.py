"""What layers of int8 are given, as a version has it: the first that is written stays."""

import json
from dataclasses import replace

import pytest

from embedkit.dataset.layer_ranges import (
    RangesRecord,
    create_ranges,
    described_ranges,
    read_ranges,
    take_ranges,
)
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError

RECORD = RangesRecord(
    (("0.query", -0.1, 1 / 3, "0f8"), ("0.dense", -1e-30, 7.0, "88")), 300, 100, 0.9976, 0.9901
)


@pytest.fixture
def version(tmp_path):
    return Version(str(tmp_path), "v1")


def test_the_first_ranges_stay_and_are_read_bit_for_bit(version):
    assert read_ranges(version) is None and described_ranges(version) is None
    create_ranges(version, RECORD)
    create_ranges(version, replace(RECORD, ranges=(("0.query", 0.0, 1.0, "888"),)))
    found = read_ranges(version)
    assert found == RECORD and found.digest == RECORD.digest
    said = described_ranges(version)
    assert (said["mean_cosine"], said["file"]) == (0.9976, "_meta/ranges.json")


def test_the_digest_is_of_the_ranges_alone():
    assert replace(RECORD, rows=2, mean_cosine=None).digest == RECORD.digest
    other = (RECORD.ranges[0], ("0.dense", -1e-30, 7.0, "89"))
    assert replace(RECORD, ranges=other).digest != RECORD.digest


def test_damaged_ranges_are_refused_with_their_name(version):
    create_ranges(version, RECORD)
    data = version.store.read(version.ranges_key)
    for changed in (b"{", data.replace(b"300", b"301"), json.dumps({"ranges": [["a"]]}).encode()):
        version.store.replace(version.ranges_key, changed)
        with pytest.raises(IntegrityError, match=r"ranges\.json: not the ranges that were written"):
            read_ranges(version)


def test_ranges_are_taken_over_unless_they_are_of_few_rows(version, tmp_path):
    earlier, small = Version(str(tmp_path), "v0"), Version(str(tmp_path), "v2")
    take_ranges(version, earlier)
    create_ranges(small, replace(RECORD, rows=99))
    take_ranges(version, small)
    assert read_ranges(version) is None
    create_ranges(earlier, RECORD)
    take_ranges(version, earlier)
    assert read_ranges(version) == RECORD
    take_ranges(small, earlier)
    assert read_ranges(small).rows == 99
