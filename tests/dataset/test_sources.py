"""Which files the rows of a part are of."""

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.dataset.committed import CommitRecord, Origin, record_without_rows
from embedkit.dataset.manifest import Part
from embedkit.dataset.sources import MOST_SOURCES, SourceRange, count_sources
from embedkit.formats.canonical import canonical_json


@given(st.lists(st.sampled_from("abcdefghijkl"), max_size=60))
def test_rows_are_counted_by_source(sources):
    counted, between = count_sources(pa.array(sources, pa.string()))
    expected = Counter(sources)
    if len(expected) <= MOST_SOURCES:
        assert (counted, between) == (expected, None)
        assert list(counted) == sorted(expected)
    else:
        assert (counted, between) == (
            {},
            SourceRange(min(expected), max(expected), len(expected)),
        )


@pytest.mark.parametrize("rows", [9, 8_192])
def test_a_block_of_many_small_files_has_a_small_record(rows):
    names = [f"{place % 7}/document-{place:06d}.txt" for place in range(rows)]
    counted, between = count_sources(pa.array(names))
    assert between == SourceRange(min(names), max(names), rows)
    part = Part("data/part-00000-00000.parquet", 1, "0" * 64, rows, counted, between)
    assert len(canonical_json(part.to_dict())) < 500


def test_a_record_says_where_rows_were_taken_over_from():
    fresh = record_without_rows("00000-00000", 1, 1)
    assert CommitRecord.from_json(fresh.to_json(), "x").origin is None
    origin = Origin("v0", "data/part-00003-00001.parquet")
    taken = CommitRecord.parse(canonical_json(fresh.to_dict() | {"origin": origin.to_dict()}))
    assert taken.origin == origin
    assert CommitRecord.from_json(taken.to_json(), "x").origin == origin
