"""What differs between two versions, against what DuckDB finds in their parts."""

import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import DESCRIPTION, Job, build_block, make_block, make_options, small_job
from calling import call
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import copy_of_root, releases, version_of
from span_blocks import OF_WORDS, span_block, span_options

from embedkit.dataset import row_join
from embedkit.dataset import rows as row_readers
from embedkit.dataset.plan_file import VersionPlan
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError, RemovedError, ResumableError
from embedkit.flow import diff as diff_module
from embedkit.flow.diff import VersionDiff, diff_versions
from embedkit.vectors import EmbeddingBlock

pytestmark = pytest.mark.usefixtures("logging_restored")

ORACLE = """
    WITH joined AS (
        SELECT coalesce(a.id, b.id) AS id, a.id IS NULL AS added, b.id IS NULL AS removed,
               a.text_hash = b.text_hash AS same,
               (a.source, a.row_index, a.chunk_index, a.char_start, a.char_end)
               IS DISTINCT FROM (b.source, b.row_index, b.chunk_index, b.char_start, b.char_end)
               AS moved,
               a.embedding IS DISTINCT FROM b.embedding AS re_encoded,
               (a.stars, a.title) IS DISTINCT FROM (b.stars, b.title) AS metadata
        FROM a FULL OUTER JOIN b ON a.id = b.id)
    SELECT id, CASE
        WHEN added THEN ['added'] WHEN removed THEN ['removed'] WHEN NOT same THEN ['changed']
        WHEN moved AND re_encoded THEN ['moved', 're_encoded'] WHEN moved THEN ['moved']
        WHEN re_encoded THEN ['re_encoded'] WHEN metadata THEN ['metadata'] ELSE [] END AS said
    FROM joined
"""

Row = dict[str, Any]


def block_of(rows: list[Row], seq: int, last: bool, before: int) -> EmbeddingBlock:
    count = len(rows)
    vectors = np.array([row["vector"] for row in rows], np.float32).reshape(count, 8)
    made = build_block(
        [row["text"] for row in rows], vectors, [3] * count, seq=seq, ids=[r["id"] for r in rows]
    )
    changed = {
        "source": pa.array([row["source"] for row in rows], pa.string()),
        "row_index": pa.array([row["row_index"] for row in rows], pa.int64()),
        "doc_id": made.rows.column("id"),
        "char_start": pa.array([row["start"] for row in rows], pa.int32()),
    }
    batch = made.rows
    for name, column in changed.items():
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(name), column)
    for name, kind in (("stars", pa.int64()), ("title", pa.string())):
        batch = batch.append_column(name, pa.array([row[name] for row in rows], kind))
    return EmbeddingBlock("00000", seq, count, last, (), batch, before)


def job_of(rows: list[Row], block_rows: int) -> Job:
    pieces = [rows[a : a + block_rows] for a in range(0, len(rows), block_rows)] or [[]]
    return Job(
        [
            block_of(piece, seq, seq == len(pieces) - 1, seq * block_rows)
            for seq, piece in enumerate(pieces)
        ]
    )


def row(name: str, **changes: Any) -> Row:
    made = {"id": name, "text": f"text {name}", "source": "a.jsonl", "row_index": 1,
            "vector": [1.0] * 8, "stars": 1, "title": "t", "start": 0}  # fmt: skip
    return made | changes


VECTORS = [[1.0] * 8, [1.0] * 7 + [1.0000001]]
ROWS = st.builds(
    row,
    st.sampled_from([f"id-{n}" for n in range(9)]),
    text=st.sampled_from(["one", "two"]),
    source=st.sampled_from(["a.jsonl", "b.jsonl"]),
    row_index=st.integers(0, 1),
    vector=st.sampled_from(VECTORS),
    stars=st.sampled_from([None, 0, 1]),
    title=st.sampled_from([None, "", "t"]),
    start=st.sampled_from([0, 0, 0, 3]),
)
MANY = st.lists(ROWS, max_size=9, unique_by=lambda one: one["id"])


def read(version: Version) -> pa.Table:
    keys = [key for key in version.store.list(version.key("data/"))]
    tables = [pq.read_table(pa.BufferReader(version.store.read(key))) for key in keys]
    return pa.concat_tables(tables) if tables else read_nothing()


def read_nothing() -> pa.Table:
    rows = block_of([row("x")], 0, True, 0).rows
    return rows.slice(0, 0)


def expected(a: Version, b: Version) -> dict[str, list[str]]:
    with duckdb.connect() as connection:
        connection.register("a", read(a))
        connection.register("b", read(b))
        return {name: said for name, said in connection.sql(ORACLE).fetchall()}


def check(found: VersionDiff, oracle: dict[str, list[str]]) -> None:
    counts = Counter(one for said in oracle.values() for one in said)
    names = ("added", "removed", "changed", "moved", "re_encoded", "metadata")
    assert {name: getattr(found, name) for name in names} == {name: counts[name] for name in names}
    assert found.moved_and_re_encoded == sum(len(said) == 2 for said in oracle.values())
    assert found.unchanged == sum(not said for said in oracle.values())
    listed = {one.id: list(one.differences) for one in found.rows()}
    assert listed == {name: said for name, said in oracle.items() if said}
    for name in names:
        only = {one.id for one in found.rows([name])}
        assert only == {one for one, said in oracle.items() if name in said}


@settings(max_examples=8)
@given(MANY, MANY, st.sampled_from([1, 2, 4]), st.sampled_from([1, 3]), st.booleans())
def test_duckdb_finds_the_same(was, now, block_rows, others, complete):
    check_against_duckdb(was, now, block_rows, others, complete)


@pytest.mark.soak
@settings(max_examples=500)
@given(MANY, MANY, st.sampled_from([1, 2, 4]), st.sampled_from([1, 3]), st.booleans())
def test_duckdb_finds_the_same_in_many_versions(was, now, block_rows, others, complete):
    check_against_duckdb(was, now, block_rows, others, complete)


def check_against_duckdb(
    was: list[Row], now: list[Row], block_rows: int, others: int, complete: bool
) -> None:
    # The versions of two runs that had most of their rows in common.
    now = [*was[: len(was) // 2], *(one for one in now if one["id"] not in
           {one["id"] for one in was[: len(was) // 2]})]  # fmt: skip
    root = f"memory://diff-{np.random.default_rng().integers(1 << 62)}"
    sides = []
    for name, rows, size in (("a", was, block_rows), ("b", now, others)):
        job, version = job_of(rows, size), Version(root, name)
        job.seal(version) if complete else job.write(version)
        sides.append(version)
    with ExitStack() as small:
        for name, value in (("_ROWS_OF_BUCKET", 3), ("_HELD_ROWS", 4)):
            small.enter_context(mock.patch.object(row_join, name, value))
        check(diff_versions(sides[0].url, sides[1].url), expected(*sides))


@pytest.fixture
def job() -> Job:
    return small_job()


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Version, Version]:
    return Version(str(tmp_path / "root"), "a"), Version(str(tmp_path / "root"), "b")


def diff_of(was: list[Row], now: list[Row], sides: tuple[Version, Version]) -> VersionDiff:
    for version, rows in zip(sides, (was, now), strict=True):
        job_of(rows, 2).seal(version)
    return diff_versions(sides[0].url, sides[1].url)


def test_rows_come_in_the_order_of_the_later_version_and_removed_ones_last(sides):
    was = [row(f"{n}", row_index=n) for n in range(8)]
    now = [row("new"), *was[:3:-1], was[2] | {"text": "other"}, was[3] | {"source": "b.jsonl"}]
    found = diff_of(was, now, sides)
    listed = [(one.differences, one.id, one.source, one.row_index) for one in found.rows()]
    assert listed == [
        (("added",), "new", "a.jsonl", 1),
        (("changed",), "2", "a.jsonl", 2),
        (("moved",), "3", "b.jsonl", 3),
        (("removed",), "0", "a.jsonl", 0),
        (("removed",), "1", "a.jsonl", 1),
    ]
    with pytest.raises(ConfigError, match="no difference 'new'; expected one of added, removed"):
        found.rows(["new"])


def test_equal_parts_are_counted_unread_and_others_are_read_once(sides, monkeypatch):
    read_parts: Counter[str] = Counter()
    original = diff_module.row_digests

    def counted(version, part, *rest):
        read_parts[f"{version.name}/{part.path}"] += 1
        return original(version, part, *rest)

    monkeypatch.setattr(diff_module, "row_digests", counted)
    was = [row(f"{n}", row_index=n) for n in range(10)]
    # The first and the third part are equal, the second one is not; the order of blocks is another.
    now = [*was[4:6], *was[:3], was[3] | {"stars": 7}, *was[6:9], row("new")]
    found = diff_of(was, now, sides)
    assert (found.parts_equal, found.unchanged, found.metadata) == (3, 8, 1)
    assert (found.added, found.removed) == (1, 1)
    assert [one.id for one in found.rows()] == ["3", "new", "9"]
    assert sorted(read_parts.values()) == [1] * 4
    # They are not read, so a damaged one does not matter, and validate finds it.
    equal = sides[1].store.url + "/b/data/part-00000-00000.parquet"
    Path(equal).write_bytes(b"PAR1")
    assert diff_versions(sides[0].url, sides[1].url).unchanged == 8


def test_a_version_does_not_differ_from_itself_and_nothing_is_read(sides, monkeypatch):
    monkeypatch.setattr(diff_module, "row_digests", None)
    small_job().complete(sides[0])
    found = diff_versions(sides[0].root, sides[0].url)
    assert (found.unchanged, found.parts_equal, list(found.rows())) == (12, 3, [])


def test_versions_of_other_roots_and_stores(tmp_path, job):
    local = Version(str(tmp_path / "here"), "v1")
    remote = Version(f"memory://{tmp_path.name}", "v1")
    job.complete(local)
    Job([make_block(0, 0, 6), make_block(2, 0, 4, seed=1)]).complete(remote)
    found = diff_versions(local.root, remote.root)
    check(found, expected_without_metadata(local, remote))
    assert found.to_dict()["later"]["url"] == remote.url


def expected_without_metadata(a: Version, b: Version) -> dict[str, list[str]]:
    tables = [
        read(one).append_column("stars", pa.nulls(read(one).num_rows))
        .append_column("title", pa.nulls(read(one).num_rows))
        for one in (a, b)
    ]  # fmt: skip
    with duckdb.connect() as connection:
        connection.register("a", tables[0])
        connection.register("b", tables[1])
        return dict(connection.sql(ORACLE).fetchall())


def test_of_an_unfinished_version_what_is_committed_counts(sides, job):
    job.seal(sides[0])
    Job(job.blocks[:1]).write(sides[1])
    # A part that nobody has committed yet.
    sides[1].store.create(sides[1].part_key("00002-00000"), b"PAR1")
    found = diff_versions(sides[0].url, sides[1].url)
    assert (found.unchanged, found.removed, found.added) == (5, 7, 0)
    assert (found.earlier.to_dict()["complete"], found.later.to_dict()["complete"]) == (True, False)
    assert {one.id for one in found.rows()} == {
        *(f"doc-0-1-{n}" for n in range(3)), *(f"doc-2-0-{n}" for n in range(4)),
    }  # fmt: skip


def test_vectors_of_another_dimension_or_type_are_all_other_ones(sides):
    Job([make_block(0, 0, 5)]).seal(sides[0])
    halves = Job([make_block(0, 0, 6, dtype="float16")], make_options(vector_dtype="float16"))
    halves.seal(sides[1])
    found = diff_versions(sides[0].url, sides[1].url)
    assert (found.re_encoded, found.added, found.unchanged) == (5, 1, 0)
    wide = Version(sides[0].root, "c")
    described = DESCRIPTION | {"dimension": 16}
    Job([make_block(0, 0, 4, dimension=16)], make_options(16), described).seal(wide)
    found = diff_versions(sides[0].url, wide.url)
    assert (found.re_encoded, found.removed, found.unchanged) == (4, 1, 0)


def test_versions_of_another_kind_are_compared_without_their_vectors(sides, caplog):
    texts = [f"text 0 0 {max(n, 1)} ü" for n in range(4)]
    Job([make_block(0, 0, 5)]).seal(sides[0])
    Job([span_block([*texts, "other"])], span_options(), dict(OF_WORDS)).seal(sides[1])
    found = diff_versions(sides[0].url, sides[1].url)
    assert (found.re_encoded, found.changed, found.unchanged) == (None, 1, 4)
    assert "/a has 'embedding'" in caplog.text
    assert "/b has 'embeddings'" in caplog.text
    assert "re_encoded            -" in call("diff", sides[0].url, sides[1].url).out


def test_many_vectors_of_a_row_are_compared_to_the_last_bit(sides):
    block = span_block(["the cat", "", "a b c", "x"])
    Job([block], span_options(), dict(OF_WORDS)).seal(sides[0])
    vectors = block.vectors.values.copy()
    vectors[-1] = np.nextafter(vectors[-1], np.float32(9))
    changed = replace(block.vectors, values=vectors).to_arrow()
    place = block.rows.schema.get_field_index("embeddings")
    rows = block.rows.set_column(place, block.rows.schema.field("embeddings"), changed)
    other = Job([block.with_rows(rows)], span_options(), dict(OF_WORDS))
    other.seal(sides[1])
    found = diff_versions(sides[0].url, sides[1].url)
    assert [(one.differences, one.id) for one in found.rows()] == [(("re_encoded",), "doc-0-0-3")]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["a", "b", "", None]),
        (pa.binary(), [b"a", b"\xff", b"", None]),
        (pa.bool_(), [True, False, None]),
        (pa.int8(), [1, -1, None]),
        (pa.uint64(), [2**64 - 1, 0, None]),
        (pa.float16(), [np.float16(0.5), np.float16(0.25), None]),
        (pa.float64(), [0.1, 0.1 + 2**-56, None]),
        (pa.date32(), [datetime(2026, 1, 1, tzinfo=UTC).date(), None]),
        (pa.time64("ns"), [1, 2, None]),
        (pa.timestamp("ns", "UTC"), [1, 2, None]),
        (pa.duration("us"), [1, 2, None]),
        (pa.decimal128(20, 2), [Decimal("1.00"), Decimal("1.01"), None]),
        (pa.list_(pa.string()), [["a"], ["a", None], [], None]),
        (pa.list_(pa.timestamp("ns")), [[1], [2], None]),
    ],
    ids=str,
)
def test_metadata_of_every_type(sides, kind, values):
    """Every value against every other: rows differ where the values do."""
    pairs = [(a, b) for a in range(len(values)) for b in range(len(values))]
    ints = pa.types.is_temporal(kind) and isinstance(values[0], int)
    columns = []
    for side in range(2):
        picked = [values[pair[side]] for pair in pairs]
        columns.append(pa.array(picked, pa.int64()).cast(kind) if ints else pa.array(picked, kind))
    for version, column in zip(sides, columns, strict=True):
        Job([make_block(0, 0, len(pairs), metadata={"m": column})]).seal(version)
    found = diff_versions(sides[0].url, sides[1].url)
    other = [f"doc-0-0-{n}" for n, (a, b) in enumerate(pairs) if a != b]
    assert [one.id for one in found.rows()] == other
    assert (found.metadata, found.unchanged) == (len(other), len(values))


def test_a_column_that_one_lacks_is_as_good_as_null_there(sides):
    made = {"m": pa.array([None, "x", None]), "n": pa.array([1, 1, 1])}
    Job([make_block(0, 0, 3, metadata=made)]).seal(sides[0])
    Job([make_block(0, 0, 3, metadata={"n": made["n"]})]).seal(sides[1])
    found = diff_versions(sides[0].url, sides[1].url)
    assert [one.id for one in found.rows()] == ["doc-0-0-1"]
    assert (found.metadata, found.unchanged) == (1, 2)


def test_recipes_are_compared_by_name(sides, job):
    was = {"prompt": "", "tokenizer": "a" * 64, "precision": "float32", "pooling": "mean"}
    now = was | {"prompt": "passage: ", "tokenizer": "b" * 64, "precision": "bfloat16"}
    for version, vectors in zip(sides, (was, now), strict=True):
        job.seal(version)
        version.store.replace(version.plan_key, VersionPlan("f" * 32, vectors=vectors).to_json())
    found = diff_versions(sides[0].url, sides[1].url)
    changes = ("prompt was '' and is 'passage: '", "tokenizer.json differs")
    assert found.recipe_changes == changes
    assert diff_versions(sides[0].url, sides[0].url).recipe_changes == ()
    answer = call("diff", sides[0].url, sides[1].url)
    assert answer.out.splitlines()[-1] == f"recipe                {'; '.join(changes)}"
    sides[0].store.remove(sides[0].plan_key)
    assert diff_versions(sides[0].url, sides[1].url).recipe_changes is None


@pytest.mark.parametrize("release", releases())
def test_versions_of_an_earlier_release(release, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    complete = Version(str(root), version_of(release, "complete"))
    half = Version(str(root), version_of(release, "half-done"))
    found = diff_versions(root, half.url)
    a, b = (set(read(one)["id"].to_pylist()) for one in (complete, half))
    assert (found.removed, found.added) == (len(a - b), len(b - a) - uncommitted(half))
    assert "pooling was 'mean' and is 'cls'" in found.recipe_changes
    places = {one.id: one.place for one in found.rows(["removed"])}
    assert places["doc-00009"] == "line 6"


def uncommitted(version: Version) -> int:
    blocks = {
        key.rpartition("/")[2][:11] for key in version.store.list(version.key("_meta/commits/"))
    }
    rows = 0
    for key in version.store.list(version.key("data/")):
        if key.rpartition("part-")[2][:11] not in blocks:
            rows += pq.read_table(pa.BufferReader(version.store.read(key))).num_rows
    return rows


# --- what is damaged ---


def replaced_part(version: Version, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    version.store.replace(version.part_key("00000-00000"), sink.getvalue().to_pybytes())


def test_a_damaged_part_is_named(sides, job):
    job.seal(sides[0])
    Job([make_block(0, 0, 5, seed=3)]).seal(sides[1])
    part = sides[1].part_key("00000-00000")
    whole = sides[1].store.read(part)
    table = pq.read_table(pa.BufferReader(whole))
    named = r"b/data/part-00000-00000\.parquet"
    sides[1].store.replace(part, whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match=f"{named}: not a readable part"):
        diff_versions(sides[0].url, sides[1].url)
    sides[1].store.remove(part)
    with pytest.raises(IntegrityError, match=f"{named}: in the manifest, but gone"):
        diff_versions(sides[0].url, sides[1].url)
    replaced_part(sides[1], table.slice(0, 4))
    with pytest.raises(IntegrityError, match=f"{named}: 4 rows, expected 5"):
        diff_versions(sides[0].url, sides[1].url)
    replaced_part(sides[1], table.drop_columns("text_hash"))
    with pytest.raises(IntegrityError, match=f"{named}: no column 'text_hash'"):
        diff_versions(sides[0].url, sides[1].url)
    replaced_part(sides[1], table.rename_columns({"embedding": "embfdding"}))
    with pytest.raises(IntegrityError, match=f"{named}: no column 'embedding'; "):
        diff_versions(sides[0].url, sides[1].url)
    bad = pa.array([b"\xff"] * 5).view(pa.string())
    replaced_part(sides[1], table.set_column(0, "id", bad))
    with pytest.raises(IntegrityError, match=f"{named}: not a readable part .*UTF8"):
        diff_versions(sides[0].url, sides[1].url)
    replaced_part(sides[1], table.set_column(0, "id", pa.array([None, *"abcd"])))
    with pytest.raises(IntegrityError, match=f"{named}: column 'id' is string with 1 nulls"):
        diff_versions(sides[0].url, sides[1].url)
    replaced_part(sides[1], table.set_column(0, "id", pa.array(range(5))))
    with pytest.raises(IntegrityError, match=f"{named}: column 'id' is int64"):
        diff_versions(sides[0].url, sides[1].url)
    place = table.schema.get_field_index("embedding")
    nulls = pa.array([None] * 5, table.schema.field(place).type)
    replaced_part(sides[1], table.set_column(place, "embedding", nulls))
    with pytest.raises(IntegrityError, match=f"{named}: not a readable part"):
        diff_versions(sides[0].url, sides[1].url)


def test_a_version_that_is_taken_away_meanwhile_is_said_to_be(sides, job, monkeypatch):
    job.seal(sides[0])
    job.write(sides[1])

    def taken_back(version):
        raise FileNotFoundError(version.commit_key("00000-00001"))

    monkeypatch.setattr(row_readers, "committed", taken_back)
    with pytest.raises(ResumableError, match=r"b: changed while it was read .*00000-00001"):
        diff_versions(sides[0].url, sides[1].url)

    def removed(version):
        version.store.remove(version.plan_key)
        return taken_back(version)

    monkeypatch.setattr(row_readers, "committed", removed)
    with pytest.raises(RemovedError, match="b: removed while it was read"):
        diff_versions(sides[0].url, sides[1].url)


def test_an_id_that_is_twice_in_a_version_is_an_error(sides):
    blocks = [block_of([row(name)], seq, seq == 1, seq) for seq, name in enumerate("xx")]
    for version, some in zip(sides, (blocks[:1], blocks), strict=True):
        Job(some).write(version)
    for paths, name in (((0, 1), "b"), ((1, 0), "b")):
        with pytest.raises(IntegrityError, match=f"{name}: an id occurs twice"):
            diff_versions(*(sides[one].url for one in paths))


def test_no_temporary_file_is_left_whatever_happens(sides, job, monkeypatch, tmp_path):
    job.seal(sides[0])
    Job([make_block(0, 0, 5, seed=3)]).seal(sides[1])
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    diff_versions(sides[0].url, sides[1].url)
    assert list(folder.iterdir()) == []
    part = sides[1].store.read(sides[1].part_key("00000-00000"))
    sides[1].store.replace(sides[1].part_key("00000-00000"), b"PAR1")
    with pytest.raises(IntegrityError):
        diff_versions(sides[0].url, sides[1].url)
    assert list(folder.iterdir()) == []
    sides[1].store.replace(sides[1].part_key("00000-00000"), part)
    folder.rmdir()
    with pytest.raises(OSError, match=str(folder)):
        diff_versions(sides[0].url, sides[1].url)


# --- the command ---


def test_a_program_gets_the_counts_and_then_a_line_for_each_row(sides):
    was = [row(f"{n}", row_index=n) for n in range(4)]
    now = [was[0], was[1] | {"text": "other"}, was[2] | {"row_index": 9, "vector": VECTORS[1]}]
    found = diff_of(was, now, sides)
    counts, *rows = map(
        json.loads, call("diff", sides[0].url, sides[1].url, "--list", "--json").out.splitlines()
    )
    assert counts == found.to_dict() == {
        "earlier": {"version": "a", "url": sides[0].url, "complete": True, "rows": 4},
        "later": {"version": "b", "url": sides[1].url, "complete": True, "rows": 3},
        "added": 0, "removed": 1, "changed": 1, "moved": 1, "re_encoded": 1, "metadata": 0,
        "moved_and_re_encoded": 1, "unchanged": 1, "parts_equal": 0, "recipe_changes": None,
    }  # fmt: skip
    assert rows == [
        {"differences": differences, "id": name, "source": "a.jsonl", "row_index": place,
         "place": f"row_index {place}"}
        for differences, name, place in (
            (["changed"], "1", 1), (["moved", "re_encoded"], "2", 9), (["removed"], "3", 3)
        )
    ]  # fmt: skip
    answer = call(
        "diff", sides[0].url, sides[1].url, "--json", "--kind", "moved", "--kind", "removed"
    )
    assert [json.loads(line)["id"] for line in answer.out.splitlines()[1:]] == ["2", "3"]
    assert call("diff", sides[0].url, sides[1].url, "--json").json == counts


def test_a_person_gets_a_table(sides):
    was = [row(f"{n}", row_index=n) for n in range(2)]
    diff_of(was, [was[0], row("new\nline")], sides)
    lines = call("diff", sides[0].url, sides[1].url, "--list").out.splitlines()
    assert lines[:4] == [
        f"earlier               {sides[0].url} (2 rows)",
        f"later                 {sides[1].url} (2 rows)",
        "added                 1",
        "removed               1",
    ]
    assert lines[-3:] == [
        "recipe                not known of both",
        r"added  new\nline  (a.jsonl, row_index 1)",
        "removed  1  (a.jsonl, row_index 1)",
    ]


def test_mistakes_are_said_in_one_line(sides, job, tmp_path):
    job.complete(sides[0])
    none = call("diff", sides[0].url, sides[1].url)
    assert (none.code, "there is no such directory" in none.error) == (2, True)
    (tmp_path / "empty").mkdir()
    no_version = call("diff", str(tmp_path / "empty"), sides[0].url)
    assert (no_version.code, "neither a version nor a root" in no_version.error) == (2, True)
    kind = call("diff", sides[0].url, sides[0].url, "--kind", "renamed")
    assert (kind.code, kind.out) == (2, "")
    assert "no difference 'renamed'; expected one of" in kind.error
