"""Metadata values that became null are counted from the blocks to the report."""

from collections.abc import Callable
from dataclasses import replace

from reporting import make_report

from embedkit.records import Nulled, add_nulled
from embedkit.reports.sections import records
from embedkit.vectors import EmbeddingBlock

FIRST = Nulled("price", 2, "float 9.99 in a.jsonl, expected int64")
SECOND = Nulled("price", 7, "str 'x' in b.jsonl, expected int64")
OTHER = Nulled("code", 1, "list [] in b.jsonl, expected bool")


def test_nulled_values_add_up_by_column_and_keep_the_first_example() -> None:
    assert add_nulled([FIRST, SECOND, OTHER]) == (OTHER, replace(FIRST, count=9))
    left = records.Records(nulled=(FIRST,))
    right = records.Records(nulled=(OTHER, SECOND))
    codec = records.SECTION.codec
    added = codec.validate_python(codec.dump_python(left + right, mode="json"))
    assert added.nulled == (OTHER, replace(FIRST, count=9))


def test_a_report_tells_of_nulled_values(make_block: Callable[..., EmbeddingBlock]) -> None:
    report = make_report([replace(make_block(["a"]), nulled=(OTHER, FIRST))])
    assert [one["count"] for one in report["metadata"]["nulled"]] == [1, 2]
    texts = [one["text"] for one in report["findings"] if "became null" in one["text"]]
    assert len(texts) == 2
    assert "float 9.99 in a.jsonl" in texts[1]
    assert "price:string" in texts[1]
