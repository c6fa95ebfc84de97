import duckdb
import pyarrow as pa
import pytest

from embedkit.reports.duplicates import text_duplicates

TEXTS = ["again", "once", "again", "twice", "only here", "again", "twice", "x" * 400, "x" * 400]


@pytest.fixture
def batches(make_block):
    block = make_block(TEXTS, ids=[f"row {place}" for place in range(len(TEXTS))])
    return [block.rows.slice(0, 4), block.rows.slice(4, 0), block.rows.slice(4)]


def test_duplicates_are_those_of_a_database(batches):
    database = duckdb.connect()
    database.register("version", pa.Table.from_batches(batches))
    expected = database.execute(
        "select count(*) n, arg_min(id, row_index), arg_min(text, row_index) "
        "from version group by text_hash having n > 1 order by n desc, text_hash"
    ).fetchall()
    found = text_duplicates(lambda: batches)
    assert [(text.count, text.id) for text in found.top] == [row[:2] for row in expected]
    assert [text.text[:150] for text in found.top] == [row[2][:150] for row in expected]
    assert found.texts == len(expected) == 3
    assert found.rows == sum(row[0] - 1 for row in expected) == 4


def test_a_version_without_texts_names_the_row(batches):
    bare = [batch.select(["id", "text_hash", "source", "row_index"]) for batch in batches]
    first = text_duplicates(lambda: bare).top[0]
    assert (first.count, first.id, first.source, first.text) == (3, "row 0", "texts.jsonl", None)


def test_no_more_than_the_top_are_named(batches):
    found = text_duplicates(lambda: batches, top=1)
    assert [text.text for text in found.top] == ["again"]
    assert (found.rows, found.texts) == (4, 3)


def test_reading_stops_when_all_are_named(batches):
    passes = []

    def read():
        passes.append(0)
        for batch in batches:
            passes[-1] += 1
            yield batch

    text_duplicates(read, top=1)
    assert passes == [3, 1]


def test_nothing_repeats(make_block):
    found = text_duplicates(lambda: [make_block(["a", "b"]).rows])
    assert (found.rows, found.texts, found.top) == (0, 0, ())
    assert text_duplicates(list).rows == 0


def test_batches_may_come_from_a_generator(batches):
    assert text_duplicates(lambda: iter(batches)) == text_duplicates(lambda: batches)
