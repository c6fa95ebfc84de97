"""Indexes that grow from earlier ones answer as those of all rows do."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from calling import call
from exporting import clusters, embedding_block, in_blocks

from embedkit.errors import ConfigError
from embedkit.search.exact import search
from embedkit.search.export import faiss_index, source
from embedkit.search.export.export import export_version
from embedkit.search.export.grow import matched
from embedkit.search.export.ids import DIGESTS, digests_of
from embedkit.search.indexed import open_index

ROWS = 500


def ids_of(folder) -> pa.Table:
    return pa.ipc.open_file(str(folder / "ids.arrow")).read_all()


def next_night(build, *, removed: bool = True):
    """Builds a version some of whose rows are gone, changed, renamed, moved and new."""
    vectors = clusters(ROWS)
    names = [f"doc-{row}" for row in range(ROWS)]
    before = build(in_blocks(vectors), name="before")
    changed = vectors.copy()
    if removed:
        changed[10:30] = clusters(20, seed=7)
    names[40:60] = [f"renamed-{row}" for row in range(20)]
    changed = np.concatenate([clusters(60, seed=8), changed])
    names = [f"new-{row}" for row in range(60)] + names
    if removed:
        changed, names = changed[:-45], names[:-45]
    blocks = [
        embedding_block(changed[some], [names[row] for row in some], split)
        for split, some in enumerate(np.array_split(np.arange(len(names)), 4))
    ]
    return before, build(blocks, name="after"), changed, names


def check(version, folder, vectors, names) -> None:
    """Every row is found by its own vector, under the name that it has now, and none twice."""
    manifest = source.Source.of(version).manifest
    opened = open_index(version, manifest, folder)
    some = np.arange(0, len(names), 9)
    hits = opened.search(version, manifest, vectors[some], 5)
    exact = search(version, vectors[some], 5)
    own = [names[row] in {hit.id for hit in found} for row, found in zip(some, hits, strict=True)]
    assert np.mean(own) > 0.9
    overlap = [
        len({hit.id for hit in found} & {hit.id for hit in right})
        for found, right in zip(hits, exact, strict=True)
    ]
    assert np.mean(overlap) > 4.5
    table = ids_of(folder)
    standing = table.filter(table["id"].is_valid()).sort_by("row")
    assert standing["id"].to_pylist() == names
    assert standing["row"].to_pylist() == list(range(len(names)))
    digests = np.frombuffer(b"".join(standing["digest"].to_pylist()), DIGESTS)
    assert np.array_equal(digests, digests_of(vectors))


@pytest.mark.parametrize("target", ["faiss", "lists", "usearch"])
def test_what_an_earlier_index_has_is_taken_over(build, tmp_path, monkeypatch, target):
    if target == "lists":
        monkeypatch.setattr(faiss_index, "_EXACT_BELOW", 100)
        target = "faiss"
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 64)
    before, after, vectors, names = next_night(build)
    assert export_version(before.url, target).record.grown is None
    answer = call("export", after.url, "--to", target, "--from", before.url, "--json")
    grown = answer.json["grown"]
    assert grown == {
        "version": "before", "taken": 435, "added": 80, "removed": 65, "rebuilt": None,
    }  # fmt: skip
    assert (answer.json["rows"], answer.json["entries"]) == (515, 580)
    assert answer.json["measured"]["recall"] >= 0.85
    check(after, tmp_path / "root" / "after" / "_index" / target, vectors, names)
    # The earlier one is what it was.
    check(before, tmp_path / "root" / "before" / "_index" / target, clusters(ROWS), [
        f"doc-{row}" for row in range(ROWS)
    ])  # fmt: skip


def test_only_new_vectors_are_added(build, tmp_path, monkeypatch):
    before, after, *_ = next_night(build, removed=False)
    export_version(before.url, "hnsw", tmp_path / "earlier")
    added = []
    plain = faiss_index._FaissIndex.add
    monkeypatch.setattr(
        faiss_index._FaissIndex,
        "add",
        lambda self, labels, vectors: (added.extend(labels), plain(self, labels, vectors)),
    )
    done = export_version(after.url, "hnsw", tmp_path / "later", earlier=tmp_path / "earlier")
    assert added == list(range(ROWS, ROWS + 60))
    assert done.record.grown.rebuilt is None
    assert "500 entries taken over, 60 added, 0 removed" in done.to_text()


def test_what_cannot_shrink_is_made_anew_and_says_so(build, tmp_path):
    before, after, vectors, names = next_night(build)
    export_version(before.url, "hnsw", tmp_path / "earlier")
    done = export_version(after.url, "hnsw", tmp_path / "later", earlier=tmp_path / "earlier")
    grown = done.record.grown
    assert (grown.taken, grown.added, grown.removed) == (0, 515, 65)
    assert (
        grown.rebuilt == "nothing can be removed from an index of hnsw, and 65 of its rows are gone"
    )
    assert f"made anew, as {grown.rebuilt}" in done.to_text()
    check(after, tmp_path / "later", vectors, names)


def test_little_that_is_left_is_no_reason_to_grow(build, tmp_path, monkeypatch):
    vectors = clusters(ROWS)
    before = build(in_blocks(vectors), name="before")
    export_version(before.url, "usearch", tmp_path / "earlier")
    few = build(in_blocks(vectors[:100]), name="few")
    none = build(in_blocks(vectors * 2), name="none")
    for version, reason in ((few, "more than half of its entries"), (none, "no vector of this")):
        done = export_version(
            version.url, "usearch", tmp_path / version.name, earlier=tmp_path / "earlier"
        )
        assert reason in done.record.grown.rebuilt
        assert done.record.entries == done.record.rows
    export_version(before.url, "faiss", tmp_path / "flat")
    monkeypatch.setattr(faiss_index, "_EXACT_BELOW", 100)
    done = export_version(before.url, "faiss", tmp_path / "lists", earlier=tmp_path / "flat")
    assert done.record.grown.rebuilt == "it has 0 lists, and 500 rows get 64"


def test_an_index_of_something_else_is_no_beginning(build, tmp_path):
    version = build(in_blocks(clusters(30)))
    other = build(in_blocks(clusters(30)), "dot", name="other")
    export_version(other.url, "usearch", tmp_path / "u")

    def said(*arguments: str) -> str:
        answer = call("export", version.url, "--output", str(tmp_path / "x"), *arguments)
        assert answer.code == 2
        return answer.error

    earlier = ("--from", str(tmp_path / "u"))
    assert "is an export to usearch, from which none to faiss" in said("--to", "faiss", *earlier)
    assert "compared by dot" in said("--to", "usearch", *earlier)
    assert "is no index that grows" in said("--to", "npy", *earlier)
    assert "nothing that embedkit export wrote" in said("--to", "faiss", "--from", version.url)


def test_equal_vectors_are_matched_one_by_one():
    random = np.random.default_rng(0)
    for _ in range(200):
        was, now = (
            digests_of(random.integers(0, 4, (random.integers(0, 12), 1)).astype(np.float32))
            for _ in range(2)
        )
        found = matched(was, now)
        taken = found[found >= 0]
        assert len(set(taken.tolist())) == len(taken)
        assert np.array_equal(was[taken], now[found >= 0])
        expected = Counter(was.tolist()) & Counter(now.tolist())
        assert len(taken) == expected.total()


def test_an_index_can_grow_in_its_own_place(build, tmp_path):
    before, after, vectors, names = next_night(build)
    place = tmp_path / "index"
    export_version(before.url, "usearch", place)
    with pytest.raises(ConfigError, match="--force"):
        export_version(after.url, "usearch", place, earlier=place)
    export_version(after.url, "usearch", place, earlier=place, force=True)
    check(after, place, vectors, names)


@pytest.mark.parametrize("target", ["faiss", "usearch"])
def test_a_third_night_grows_from_an_index_that_has_lost_rows(build, tmp_path, target):
    before, after, vectors, names = next_night(build)
    export_version(before.url, target, tmp_path / "first")
    export_version(after.url, target, tmp_path / "second", earlier=tmp_path / "first")
    keep = np.arange(20, len(names))
    third = build(
        [embedding_block(vectors[keep], [names[row] for row in keep])], name="third_night"
    )
    done = export_version(third.url, target, tmp_path / "third", earlier=tmp_path / "second")
    grown = done.record.grown
    assert (grown.taken, grown.added, grown.removed, grown.rebuilt) == (495, 0, 20, None)
    assert done.record.entries == 580
    check(third, tmp_path / "third", vectors[keep], names[20:])
