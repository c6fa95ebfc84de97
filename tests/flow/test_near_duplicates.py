"""Near duplicates over all rows of versions, held against brute force."""

import importlib.util
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_parquet import without_page
from hypothesis import given, settings
from hypothesis import strategies as st
from near_rows import (
    brute_force,
    clustered,
    groups,
    ids_of,
    pairs_in,
    read_groups,
    shared_pairs,
    unit,
    write_parts,
)

from embedkit.config import OutputConfig
from embedkit.dataset import rows as dataset_rows
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, GoneError, IntegrityError
from embedkit.flow import near_duplicates
from embedkit.flow.map_splits import map_in_threads
from embedkit.flow.near_duplicates import (
    NEAR_JSON,
    Sizes,
    find_by_workers,
    find_near_duplicates,
    is_gated,
    near_duplicates_of,
)
from embedkit.flow.scratch import StoreScratch, remove_scratch
from embedkit.reports.near import cells
from embedkit.reports.near.figures import NearDuplicates
from embedkit.reports.near.pairs import Limits

THRESHOLD = "0.95"
# Five cells, of which some are parted again.
SMALL = Sizes(100, 300, 500, Limits(600, 200))


def ids_for(count):
    return [f"row-{number}" for number in range(count)]


def cut(rows, parts, seed=None):
    order = np.arange(rows) if seed is None else np.random.default_rng(seed).permutation(rows)
    return [one.tolist() for one in np.array_split(order, parts) if len(one)]


def pickled(function, items):
    """Maps as workers do, who get copies, later ones first."""
    done = [pickle.loads(pickle.dumps(function))(one) for one in pickle.loads(pickle.dumps(items))]
    return pickle.loads(pickle.dumps(done))


def with_equal_texts(rows, of):
    """Texts of which the last ones are those of other rows."""
    texts = [f"text {row}" for row in range(rows)]
    for row, other in of.items():
        texts[row] = texts[other]
    return texts


@pytest.fixture
def version(tmp_path):
    return Version(str(tmp_path), "v1")


def test_a_small_version_has_the_groups_of_brute_force(version):
    vectors = clustered(1000)
    parts = write_parts(version, vectors, cut(1000, 3))
    found = find_near_duplicates(version, parts, THRESHOLD)
    expected = brute_force(vectors, 0.95)
    assert read_groups(version) == ids_of(expected, ids_for(1000))
    rows = sum(map(len, expected))
    assert (found.groups, found.rows) == (len(expected), rows)
    assert found.removable == rows - len(expected)
    assert found.share == found.removable / 1000
    assert (found.recall, found.exact, found.compared) == (1.0, True, 1000)
    assert (found.unusable, found.equal_texts) == (0, 0)


def test_cells_find_nearly_all_pairs_and_none_that_are_not(version):
    vectors = clustered(1500)
    parts = write_parts(version, vectors, cut(1500, 9))
    found = find_near_duplicates(version, parts, THRESHOLD, sizes=SMALL)
    named, ids = read_groups(version), ids_for(1500)
    ours = {frozenset(ids.index(one) for one in group) for group in named}
    expected = brute_force(vectors, 0.95)
    assert all(any(one <= other for other in expected) for one in ours)
    recall = shared_pairs(ours, expected) / pairs_in(expected)
    assert recall > 0.95
    # Every row was a probe, so the recall that is said is the true one.
    assert found.recall_rows == 1500
    assert found.recall == pytest.approx(recall, abs=0.02)
    assert not found.exact


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_of_equal_texts_are_one_group_whatever_their_vectors(version, dtype):
    vectors = unit(np.random.default_rng(0).standard_normal((600, 32))).astype(dtype)
    texts = with_equal_texts(600, {590: 3, 591: 3, 40: 7})
    vectors[591] = np.nan
    vectors[40] = 0
    parts = write_parts(version, vectors, cut(600, 4), texts=texts)
    found = find_near_duplicates(version, parts, THRESHOLD, sizes=SMALL)
    assert read_groups(version) == {
        frozenset({"row-3", "row-590", "row-591"}),
        frozenset({"row-7", "row-40"}),
    }
    assert found.equal_texts == 3
    # One of each text goes on, perhaps the one whose vector has no direction.
    assert found.compared + found.unusable == 597


@settings(max_examples=4, deadline=None)
@given(parts=st.integers(1, 12), seed=st.integers(0, 99), workers=st.booleans())
def test_any_order_and_any_parts_give_the_same_bytes(tmp_path_factory, parts, seed, workers):
    vectors = clustered(600, dimension=16)
    texts = with_equal_texts(600, {n: n // 2 for n in range(500, 560)})
    made = []
    for cuts, by in ((cut(600, 1), None), (cut(600, parts, seed), workers)):
        version = Version(str(tmp_path_factory.mktemp("root")), "v1")
        written = write_parts(version, vectors, cuts, texts=texts)
        ways = {"map_splits": pickled, "scratch": StoreScratch(version, "t")} if by else {}
        found = find_near_duplicates(version, written, THRESHOLD, sizes=SMALL, **ways)
        read_groups(version)
        data = version.store.read(version.key("report/near_duplicates.arrow"))
        made.append((data, found.threshold, found.floor, found.recall))
    assert made[0] == made[1]


@pytest.mark.parametrize("few", [True, False])
def test_rows_that_are_all_one_point_are_one_group(version, few):
    vectors = unit(np.ones((900, 8)) + 1e-5 * np.random.default_rng(0).random((900, 8)))
    parts = write_parts(version, vectors, cut(900, 3))
    found = find_near_duplicates(version, parts, sizes=Sizes() if few else SMALL)
    assert read_groups(version) == {frozenset(ids_for(900))}
    assert (found.groups, found.removable, found.recall) == (1, 899, 1.0)
    assert found.floor == pytest.approx(1, abs=1e-4)
    # With the floor at 1 nothing would be near: it is taken for 0.8 at most.
    assert found.threshold == 0.99


def test_rows_that_are_all_apart_are_in_no_group(version):
    parts = write_parts(version, np.eye(700, dtype=np.float32), cut(700, 3))
    found = find_near_duplicates(version, parts, sizes=SMALL)
    assert read_groups(version) == set()
    assert (found.groups, found.rows, found.share, found.largest) == (0, 0, 0.0, ())
    assert (found.recall, found.recall_pairs) == (None, 0)
    assert (found.floor, found.threshold) == (0.0, 0.95)


def test_rows_without_a_direction_are_counted_and_in_no_group(version):
    vectors = np.zeros((500, 4), np.float32)
    vectors[:2] = [[1, 0, 0, 0], [1, 0.01, 0, 0]]
    vectors[2:4] = np.inf
    parts = write_parts(version, vectors, cut(500, 2))
    found = find_near_duplicates(version, parts, THRESHOLD, sizes=SMALL)
    assert read_groups(version) == {frozenset({"row-0", "row-1"})}
    assert (found.compared, found.unusable) == (2, 498)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_versions_of_very_few_rows(version, rows):
    parts = write_parts(version, unit(np.ones((max(1, rows), 4))), cut(rows, 1))
    found = find_near_duplicates(version, parts)
    assert read_groups(version) == ({frozenset({"row-0", "row-1"})} if rows == 2 else set())
    assert found.version_rows == rows


def test_one_cell_may_hold_everything(version):
    # Half of the rows are one tight topic, which no border of cells should break up.
    random = np.random.default_rng(0)
    tight = np.ones((800, 24)) + 0.02 * random.standard_normal((800, 24))
    vectors = unit(np.concatenate([tight, random.standard_normal((100, 24))]))
    parts = write_parts(version, vectors, cut(900, 4))
    find_near_duplicates(version, parts, THRESHOLD, sizes=SMALL)
    assert read_groups(version) == {frozenset(ids_for(800))}


def test_any_id_is_named(version):
    ids = ['a"b', "line\nbreak", "o'clock", "ü, \\", "</script>", "\u2028"]
    vectors = unit(np.repeat(np.eye(3, 6), 2, axis=0))
    parts = write_parts(version, vectors, cut(6, 2), ids=ids)
    find_near_duplicates(version, parts, THRESHOLD)
    assert read_groups(version) == {
        frozenset(pair) for pair in zip(ids[::2], ids[1::2], strict=True)
    }


def test_chunks_of_one_document_are_no_pair_but_their_equals_elsewhere_are(version):
    vectors = unit([[1, 0], [1, 0.01], [1, 0.02], [0, 1], [0, 1]])
    documents = ["a", "a", "b", "c", "c"]
    parts = write_parts(version, vectors[[0, 1, 3]], cut(3, 1), documents=["a", "a", "c"])
    find_near_duplicates(version, parts, THRESHOLD)
    assert read_groups(version) == set()
    other = version.sibling("v2")
    texts = ["one", "two", "three", "same", "same"]
    parts = write_parts(other, vectors, cut(5, 2), documents=documents, texts=texts)
    find_near_duplicates(other, parts, THRESHOLD)
    assert read_groups(other) == {
        frozenset({"row-0", "row-1", "row-2"}),
        frozenset({"row-3", "row-4"}),
    }


def test_the_threshold_is_relative_to_the_floor(version):
    random = np.random.default_rng(0)
    vectors = unit(random.standard_normal((800, 64)) + 1.5)
    parts = write_parts(version, vectors, cut(800, 2))
    found = find_near_duplicates(version, parts)
    cosines = vectors @ vectors.T
    mean = cosines[np.triu_indices(800, 1)].mean()
    assert found.floor == pytest.approx(mean, abs=1e-5)
    assert found.threshold == pytest.approx(mean + 0.95 * (1 - mean), abs=1e-5)
    assert find_near_duplicates(version, parts, "0.5").threshold == 0.5


def test_the_largest_groups_are_shown_with_texts_or_without(version):
    texts = with_equal_texts(60, {n: n % 3 for n in range(40)})
    texts = [f"<b>{text}</b>" for text in texts]
    parts = write_parts(version, np.eye(60, dtype=np.float32), cut(60, 2), texts=texts)
    found = find_near_duplicates(version, parts, texts=True)
    assert [group.size for group in found.largest] == [14, 13, 13]
    first = found.largest[0].shown
    assert [row.text for row in first] == ["<b>text 0</b>"] * 3
    assert (first[0].id, first[0].source, first[0].row_index) == ("row-0", "a.jsonl", 0)
    bare = find_near_duplicates(version, parts)
    assert [row.text for row in bare.largest[0].shown] == [None] * 3
    assert NearDuplicates.parse(version.store.read(version.key(NEAR_JSON))) == bare


def test_what_is_known_of_the_same_parts_is_not_looked_for_again(version, monkeypatch):
    parts = write_parts(version, clustered(300), cut(300, 2))
    found = near_duplicates_of(version, parts, "auto", False)
    calls = []
    real = near_duplicates.find_near_duplicates
    monkeypatch.setattr(
        near_duplicates,
        "find_near_duplicates",
        lambda *given: calls.append(given) or real(*given),
    )
    assert near_duplicates_of(version, parts, "auto", False) == found
    assert not calls
    near_duplicates_of(version, parts[:1], "auto", False)
    assert near_duplicates_of(version, parts, "0.9", False).threshold == 0.9
    version.store.replace(version.key(NEAR_JSON), b'{"torn')
    assert near_duplicates_of(version, parts, "auto", False) == found
    version.store.remove(version.key("report/near_duplicates.arrow"))
    assert near_duplicates_of(version, parts, "auto", False) == found
    assert len(calls) == 4


def test_workers_find_the_same_and_leave_nothing_behind(version, tmp_path, monkeypatch):
    vectors = clustered(1500)
    parts = write_parts(version, vectors, cut(1500, 6))
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
    monkeypatch.setattr(near_duplicates, "Sizes", lambda: Sizes(100))
    find_by_workers(version, parts, THRESHOLD, False, map_in_threads)
    by_workers = read_groups(version)
    version.store.replace(version.key("_meta/near/killed/rows-0"), b"left by a killed run")
    remove_scratch(version)
    assert not list(version.store.list(version.key("_meta/near/")))
    other = Version(str(tmp_path / "other"), "v1")
    find_near_duplicates(other, write_parts(other, vectors, cut(1500, 6)), THRESHOLD)
    assert by_workers == read_groups(other) == ids_of(brute_force(vectors, 0.95), ids_for(1500))


@pytest.mark.parametrize("found_by_the_other", [True, False])
def test_another_run_takes_scratch_away_that_is_still_read(
    version, monkeypatch, found_by_the_other
):
    parts = write_parts(version, clustered(300), cut(300, 2))
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
    monkeypatch.setattr(near_duplicates, "Sizes", lambda: SMALL)
    calls = []

    def map_splits(function, items):
        calls.append(function)
        if len(calls) == 2:
            if found_by_the_other:
                find_near_duplicates(version, parts, THRESHOLD)
            remove_scratch(version)
        return map(function, items)

    if found_by_the_other:
        find_by_workers(version, parts, THRESHOLD, False, map_splits)
        assert read_groups(version)
    else:
        with pytest.raises(GoneError, match="texts-0"):
            find_by_workers(version, parts, THRESHOLD, False, map_splits)
    assert len(calls) == 2


def test_a_small_version_is_read_once_and_without_faiss(version, monkeypatch):
    parts = write_parts(version, clustered(300), cut(300, 3))
    opened = []
    real = dataset_rows.opened_part

    def opening(version, part, *given):
        opened.append(part.path)
        return real(version, part, *given)

    monkeypatch.setattr(dataset_rows, "opened_part", opening)
    monkeypatch.setattr(cells, "_faiss", lambda: pytest.fail("faiss is loaded"))
    assert near_duplicates_of(version, parts, "auto", True).largest
    # The first one for the schema; the rows that are shown, of any number of groups, once more.
    assert opened[:4] == [parts[0].path, *(part.path for part in parts)]
    assert len(set(opened[4:])) == len(opened[4:])


def test_one_process_is_not_given_a_large_version_unasked(version, monkeypatch, caplog):
    parts = write_parts(version, clustered(300), cut(300, 2))
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
    monkeypatch.setattr(near_duplicates, "_MOST_ROWS_HERE", 299)
    said = near_duplicates_of(version, parts, "auto", False)
    assert said.startswith("more than 299 rows take an engine's workers")
    assert said in caplog.text
    assert version.store.size(version.key(NEAR_JSON)) is None
    found = near_duplicates_of(version, parts, "on", False)
    assert found.version_rows == 300
    find_by_workers(version, parts, "auto", False, map_in_threads)
    assert near_duplicates_of(version, parts, "auto", False).asked == "auto"


def test_workers_are_left_alone_with_a_small_version(version):
    parts = write_parts(version, clustered(50), cut(50, 1))
    find_by_workers(version, parts, "on", False, lambda *_: pytest.fail("mapped"))
    assert version.store.size(version.key(NEAR_JSON)) is None


def test_what_is_not_looked_for_says_why(version, monkeypatch, caplog):
    parts = write_parts(version, clustered(300), cut(300, 2))
    assert near_duplicates_of(version, parts, "off", False) == "near_duplicates is off"
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "faiss" else real(name)
    )
    assert "install faiss-cpu" in near_duplicates_of(version, parts, "auto", False)
    assert "near duplicates are not looked for: of more than" in caplog.text
    with pytest.raises(ConfigError, match=r"near_duplicates: 0\.9, but faiss is not installed"):
        near_duplicates_of(version, parts, "0.9", False)


def test_a_gate_on_them_has_them_looked_for_every_night():
    def output(*gates: str) -> OutputConfig:
        return OutputConfig(output="out", fail_on=gates)

    assert is_gated(output("truncated_share>0.2", "near_duplicate_share>0.3"))
    assert is_gated(output("near_duplicates.groups?>9"))
    assert not is_gated(output("duplicate_share>0.3"))


def test_a_night_that_takes_most_rows_over_does_not_compare_them_all_once_more(
    version, monkeypatch
):
    parts = write_parts(version, clustered(300), cut(300, 2))
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
    said = near_duplicates_of(version, parts, "auto", False, taken_over=151)
    assert said.startswith("151 of 300 rows were taken over from an earlier version")
    find_by_workers(version, parts, "auto", False, lambda *_: pytest.fail("mapped"), taken_over=151)
    for asked, taken_over in (("auto", 150), ("on", 300), ("0.9", 300)):
        found = near_duplicates_of(version, parts, asked, False, taken_over)
        assert found.compared == 300, asked
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 300)
    assert near_duplicates_of(version, parts, "auto", False, taken_over=300).compared == 300


@pytest.mark.parametrize(
    ("column", "said"), [("embeddings", "several vectors"), ("score", "scores and no vector")]
)
def test_other_things_than_one_vector_are_not_compared(version, column, said):
    table = pa.table({"id": ["a"], column: pa.array([[1.0]] if column != "score" else [1.0])})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    key = "data/part-00000-00000.parquet"
    version.store.create(version.key(key), sink.getvalue().to_pybytes())
    part = near_duplicates.Part(key, sink.tell() if not sink.closed else 999, "0" * 64, 1)
    assert said in near_duplicates_of(version, [part], "on", False)


def test_a_part_that_is_gone_is_named(version):
    parts = write_parts(version, clustered(30), cut(30, 2))
    version.store.remove(version.key(parts[1].path))
    with pytest.raises(IntegrityError, match=r"part-00000-00001\.parquet.*gone"):
        find_near_duplicates(version, parts)


@pytest.mark.parametrize("passes", [False, True])
def test_a_part_of_which_pages_are_passed_over_is_named(version, passes, monkeypatch):
    if passes:
        monkeypatch.setattr(near_duplicates, "FEW_ROWS", 100)
        monkeypatch.setattr(near_duplicates, "Sizes", lambda: SMALL)
    parts = write_parts(version, clustered(400), cut(400, 2))
    key = version.key(parts[1].path)
    data = version.store.read(key)
    # Of all of its columns, or Arrow itself finds that their lengths differ.
    group = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    for column in range(group.num_columns):
        data = without_page(data, group.column(column).path_in_schema)
    version.store.replace(key, data)
    with pytest.raises(IntegrityError, match=r"part-00000-00001\.parquet: not a readable part"):
        find_near_duplicates(version, parts)


def test_groups_by_hand():
    assert groups(np.array([1, 2, 3]), np.array([0, 0, 1])) == {frozenset({1, 2})}
