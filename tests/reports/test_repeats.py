import duckdb
import pyarrow as pa
import pytest
from reporting import repeats_of

from embedkit.hashes.digests import text_hash
from embedkit.reports.repeats import TextRepeats, find_repeats, hash64

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
    found = repeats_of(*batches)
    assert [(text.count, text.id) for text in found.top] == [row[:2] for row in expected]
    assert [text.text[:150] for text in found.top] == [row[2][:150] for row in expected]
    assert found.texts == len(expected) == 3
    assert found.rows == sum(row[0] - 1 for row in expected) == 4


def test_a_version_without_texts_names_the_row(batches):
    bare = [batch.select(["id", "text_hash", "source", "row_index"]) for batch in batches]
    first = repeats_of(*bare).top[0]
    assert (first.count, first.id, first.source, first.text) == (3, "row 0", "texts.jsonl", None)


def test_no_more_than_the_top_are_named(batches):
    found = repeats_of(*batches, top=1)
    assert [text.text for text in found.top] == ["again"]
    assert (found.rows, found.texts) == (4, 3)


def test_rows_are_read_once_and_only_those_that_are_named(batches):
    read: list[list[int]] = []
    rows = pa.Table.from_batches(batches)

    def rows_at(places):
        read.append(places)
        return rows.take(places)

    hashes = (hash64(batch.column("text_hash")) for batch in batches)
    found = find_repeats(hashes, rows_at, top=1)
    assert read == [[0]]
    assert [text.text for text in found.top] == ["again"]
    assert (found.rows, found.texts) == (4, 3)


def test_nothing_repeats(make_block):
    found = repeats_of(make_block(["a", "b"]).rows)
    assert (found.rows, found.texts, found.top) == (0, 0, ())
    assert find_repeats([], None) == TextRepeats()


def test_hash64_is_the_start_of_the_hash(make_block):
    texts = ["a", "b", "", "\U0001f600"]
    column = make_block(texts).rows.column("text_hash")
    assert hash64(column).tolist() == [int(text_hash(text)[:16], 16) for text in texts]
    assert hash64(column.slice(1, 2)).tolist() == hash64(column).tolist()[1:3]
    assert hash64(column.slice(0, 0)).tolist() == []
    chunked = pa.chunked_array([column.slice(0, 1), column.slice(2)])
    assert hash64(chunked).tolist() == hash64(column).tolist()[:1] + hash64(column).tolist()[2:]
