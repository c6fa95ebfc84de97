"""How the rows of a version stand to an earlier one's: sums of commit records, by hand."""

import random
from dataclasses import replace

import pytest

from embedkit.dataset.committed import record_without_rows
from embedkit.dataset.finalize import Totals
from embedkit.dataset.manifest import Part
from embedkit.dataset.reuse_sums import MOST_SOURCES_SHOWN, ReuseSums
from embedkit.formats.reused import Reused


def record(number, rows, reused=None, sources=None):
    return replace(
        record_without_rows(f"00000-{number:05d}", rows, 0),
        rows=rows,
        part=f"data/part-00000-{number:05d}.parquet",
        sources={"a": rows} if sources is None else sources,
        reused=reused,
    )


def part(number, sources, rows=None):
    rows = sum(sources.values()) if rows is None else rows
    return Part(f"data/part-00000-{number:05d}.parquet", 1, "0" * 64, rows, sources)


RECORDS = [
    record(0, 10, Reused("v0", 9, 90, 1, 0, {"a": (9, 1, 0)})),
    record(1, 8, Reused("v0", 5, 50, 0, 2, {"a": (1, 0, 0), "b": (4, 0, 2)}), {"a": 2, "b": 6}),
    # Copied whole, which says nothing of its sources.
    record(2, 7, Reused("v0", 7, 70), {"b": 7}),
]
EARLIER = [part(0, {"a": 14, "b": 13}), part(1, {"c": 3})]


def total(records, rows, parts):
    totals = Totals()
    for one in records:
        totals.add(Totals.of([one]))
    assert totals.reuse == ReuseSums.of(records)
    return totals.reuse.against(rows, lambda name: parts if name == "v0" else None)


def test_sums_of_blocks():
    found = total(RECORDS, 25, EARLIER)
    assert (found.versions, found.compared) == ({"v0": 21}, 25)
    assert (found.rows, found.tokens, found.added, found.changed) == (21, 210, 1, 2)
    # 24 of its 30 rows are known by their id.
    assert found.removed == 6
    assert found.sources == {"a": (10, 2, 1, 0, 3), "b": (11, 2, 0, 2, 0), "c": (0, 0, 0, 0, 3)}


@pytest.mark.parametrize(
    "records",
    [
        [*RECORDS, record(3, 4)],
        [*RECORDS, record(3, 4, Reused("v-1", 4, 4))],
    ],
)
def test_what_is_gone_is_not_known_where_not_all_was_compared_with_one_version(records):
    found = total(records, 29, EARLIER)
    assert found.removed is None
    assert all(counts[-1] is None for counts in found.sources.values())


def test_what_is_gone_by_source_is_not_known_where_parts_do_not_name_them():
    found = total(RECORDS, 25, [part(0, {}, 27), part(1, {"c": 3})])
    assert found.removed == 6
    assert found.sources["a"] == (10, 2, 1, 0, None)
    many = record(3, 9, Reused("v0", 9, 9), {})
    found = total([*RECORDS, many], 34, [*EARLIER, part(2, {"d": 9})])
    assert (found.removed, found.sources["a"]) == (6, (10, 2, 1, 0, None))


def test_of_many_sources_those_are_named_where_most_is_new():
    names = [f"{number:03d}" for number in range(MOST_SOURCES_SHOWN * 2)]
    records = [
        record(n, 9, Reused("v0", 9 - n % 2, 9, n % 2, 0, {name: (9 - n % 2, n % 2, 0)}), {name: 9})
        for n, name in enumerate(names)
    ]
    random.Random(1).shuffle(records)
    found = total(records, 9 * len(names), None)
    assert list(found.sources) == names[1::2]


def test_a_version_that_was_compared_with_none_says_nothing():
    assert total([record(0, 3), record(1, 4)], 7, EARLIER) is None
