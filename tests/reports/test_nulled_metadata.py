"""Metadata values that became null are counted from the blocks to the report."""

from dataclasses import replace

from embedkit.records import Nulled, add_nulled
from embedkit.reports.account import RunAccount
from embedkit.reports.quality import BlockStatistics
from embedkit.reports.report import build_report

FIRST = Nulled("price", 2, "float 9.99 in a.jsonl, expected int64")
SECOND = Nulled("price", 7, "str 'x' in b.jsonl, expected int64")
OTHER = Nulled("code", 1, "list [] in b.jsonl, expected bool")


def test_nulled_values_add_up_by_column_and_keep_the_first_example() -> None:
    assert add_nulled([FIRST, SECOND, OTHER]) == (OTHER, replace(FIRST, count=9))
    left = replace(BlockStatistics.empty(), nulled=(FIRST,))
    right = replace(BlockStatistics.empty(), nulled=(OTHER, SECOND))
    added = BlockStatistics.from_json((left + right).to_json())
    assert added.nulled == (OTHER, replace(FIRST, count=9))


def test_a_report_tells_of_nulled_values() -> None:
    statistics = replace(BlockStatistics.empty(), nulled=(FIRST, OTHER))
    report = build_report(statistics, {"max_tokens": 8}, RunAccount(files=1, bytes=1))
    assert [one["count"] for one in report["metadata"]["nulled"]] == [2, 1]
    texts = [one["text"] for one in report["findings"] if "became null" in one["text"]]
    assert len(texts) == 2
    assert "float 9.99 in a.jsonl" in texts[0]
    assert "price:string" in texts[0]
