import duckdb
import pyarrow as pa
import pytest
from reporting import repeats_of

from embedkit.hashes import repeats
from embedkit.hashes.digests import text_hash
from embedkit.reports.repeats import TextRepeats, hash64, name_repeats

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


def test_no_more_than_the_top_are_named(make_block):
    texts = [str(number) for number in range(repeats.TOP + 2)]
    found = repeats_of(make_block([*texts, *texts, texts[-1]]).rows)
    assert found.top[0].text == texts[-1]
    assert (len(found.top), found.texts, found.rows) == (len(texts) - 2, len(texts), len(texts) + 1)


def test_rows_are_read_once_and_only_those_that_are_named(batches):
    read: list[list[int]] = []
    rows = pa.Table.from_batches(batches)

    def rows_at(places):
        read.append(places)
        return rows.take(places)

    hashes = hash64(rows.column("text_hash"))
    found = name_repeats(repeats.RepeatedHashes.of(hashes), rows_at)
    assert read == [[0, 3, 7]]
    assert [text.text[:5] for text in found.top] == ["again", *sorted_by_hash("twice", "x" * 400)]
    assert (found.rows, found.texts) == (4, 3)


def sorted_by_hash(*texts: str) -> list[str]:
    return [text[:5] for text in sorted(texts, key=text_hash)]


def test_nothing_repeats(make_block):
    found = repeats_of(make_block(["a", "b"]).rows)
    assert (found.rows, found.texts, found.top) == (0, 0, ())
    assert name_repeats(repeats.RepeatedHashes(), None) == TextRepeats()


def test_hash64_is_the_start_of_the_hash(make_block):
    texts = ["a", "b", "", "\U0001f600"]
    column = make_block(texts).rows.column("text_hash")
    assert hash64(column).tolist() == [int(text_hash(text)[:16], 16) for text in texts]
    assert hash64(column.slice(1, 2)).tolist() == hash64(column).tolist()[1:3]
    assert hash64(column.slice(0, 0)).tolist() == []
    chunked = pa.chunked_array([column.slice(0, 1), column.slice(2)])
    assert hash64(chunked).tolist() == hash64(column).tolist()[:1] + hash64(column).tolist()[2:]
