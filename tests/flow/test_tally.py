"""How many documents a version accounts for, as workers say it."""

import pytest

from embedkit.dataset.committed import record_without_rows
from embedkit.flow.tally import Tally, documents_by_split


def test_each_block_counts_once_and_those_of_earlier_tries_as_well():
    tally = Tally({"00000": 40, "00001": 10})
    assert (tally.documents, tally.documents_before, tally.rejects) == (50, 50, 0)
    tally.count("00001", 10, 7, 2)
    tally.count("00001", 17, 3, 0)
    tally.count("00002", 0, 5, 1)
    assert (tally.documents, tally.documents_before, tally.rejects) == (65, 50, 3)


@pytest.mark.parametrize(
    ("committed", "told", "documents"),
    [
        # A worker was lost after it had committed a block and before it could say so.
        ({}, [(0, 10), (20, 10)], 30),
        ({}, [(20, 10)], 30),
        # Of an earlier try a block in the middle is gone, and is made again.
        ({"00000": 20}, [(10, 10)], 30),
        ({"00000": 20}, [(20, 10), (30, 5)], 35),
        # Nothing is counted down.
        ({"00000": 20}, [(0, 10)], 30),
    ],
)
def test_a_gap_in_what_is_told_is_closed_by_the_place_of_the_next_block(committed, told, documents):
    tally = Tally(committed)
    for before, count in told:
        tally.count("00000", before, count, 0)
    assert tally.documents == documents


def test_documents_of_commit_records_by_split():
    records = [
        record_without_rows(block, documents, 0)
        for block, documents in (("00000-00000", 3), ("00000-00001", 4), ("100000-00000", 5))
    ]
    assert documents_by_split(records) == {"00000": 7, "100000": 5}
