"""Searches in an index, against searches of all rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from blocks import Job, make_block, make_options
from calling import call
from running import Dataset

from embedkit.dataset.version import Version, find_version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search.exact import search
from embedkit.search.export import targets
from embedkit.search.export.export import export_version
from embedkit.search.export.source import Source
from embedkit.search.indexed import open_index
from embedkit.search.query import search_text

TEXT = "vectors and their neighbours, counted"


@pytest.fixture
def rows(version: Version, job: Job) -> Version:
    description = {**job.description, "dimension": 16}
    blocks = [make_block(split, 0, 70, dimension=16) for split in range(4)]
    Job(blocks, make_options(16, store_text=True), description).complete(version)
    return version


@pytest.mark.parametrize("target", ["faiss", "hnsw", "usearch"])
def test_an_index_finds_the_rows_that_a_full_search_finds(rows, tmp_path, target):
    manifest = Source.of(rows).manifest
    export_version(rows.url, target, tmp_path / "index", recall=1.0)
    opened = open_index(rows, manifest, tmp_path / "index")
    queries = np.random.default_rng(3).standard_normal((30, 16)).astype(np.float32)
    found, exact = opened.search(rows, manifest, queries, 10), search(rows, queries, 10)
    same = 0
    for hits, right in zip(found, exact, strict=True):
        by_id = {hit.id: hit for hit in right}
        for hit in hits:
            if hit.id in by_id:
                same += 1
                expected = by_id[hit.id]
                assert hit.score == pytest.approx(expected.score, abs=1e-5)
                assert (hit.source, hit.row_index, hit.text) == (
                    expected.source, expected.row_index, expected.text,
                )  # fmt: skip
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert same >= 0.97 * 300
    # As many as are asked for are found, whatever the index usually spends.
    effort = opened.index.effort
    assert [len(hits) for hits in opened.search(rows, manifest, queries[:2], 999)] == [280, 280]
    assert opened.index.effort == effort


def test_queries_of_another_kind_are_refused_as_a_full_search_does(rows, tmp_path):
    manifest = Source.of(rows).manifest
    export_version(rows.url, "usearch", tmp_path / "index")
    opened = open_index(rows, manifest, tmp_path / "index")
    for queries, k in ((np.ones((1, 3)), 1), (np.full((1, 16), np.nan), 1), (np.ones(16), 0)):
        with pytest.raises(ConfigError):
            opened.search(rows, manifest, queries, k)


def test_an_index_of_other_rows_is_not_searched(rows, tmp_path, caplog):
    description = {**make_description(rows), "dimension": 16}
    other = Version(rows.root, "v2")
    Job([make_block(0, 0, 50, dimension=16)], make_options(16), description).complete(other)
    export_version(other.url, "usearch", tmp_path / "index")
    manifest = Source.of(rows).manifest
    with pytest.raises(ConfigError, match=r"index of v2, which has other rows than .*--from"):
        open_index(rows, manifest, tmp_path / "index")
    inside = Path(rows.url) / "_index"
    inside.mkdir()
    (tmp_path / "index").rename(inside / "usearch")
    assert open_index(rows, manifest) is None
    assert "all rows are compared" in caplog.text
    (inside / "usearch").rename(tmp_path / "index")
    assert open_index(rows, manifest) is None
    export_version(rows.url, "npy", tmp_path / "arrays")
    with pytest.raises(ConfigError, match="an export to npy"):
        open_index(rows, manifest, tmp_path / "arrays")
    with pytest.raises(ConfigError, match="nothing that embedkit export wrote"):
        open_index(rows, manifest, tmp_path)


def make_description(version: Version) -> dict:
    return dict(Source.of(version).manifest.description)


def test_entries_that_do_not_belong_to_their_rows_are_told(rows, tmp_path):
    export_version(rows.url, "faiss", tmp_path / "index")
    manifest = Source.of(rows).manifest
    opened = open_index(rows, manifest, tmp_path / "index")
    plain = opened.ids.rows_of

    def shifted(labels):
        return [(name, (row + 1) % 280) for name, row in plain(labels)]

    opened.ids.rows_of = shifted
    with pytest.raises(IntegrityError, match=r"has 'doc-.*' where .* has 'doc-"):
        opened.search(rows, manifest, np.ones(16), 3)


def test_a_missing_library_costs_the_index_and_not_the_search(rows, monkeypatch, caplog):
    manifest = Source.of(rows).manifest
    export_version(rows.url, "usearch")
    assert open_index(rows, manifest) is not None
    absent = targets.Target("absent_index", "KIND", True, "usearch", "embedkit")
    monkeypatch.setitem(targets.TARGETS, "usearch", absent)
    assert open_index(rows, manifest) is None
    assert "install the extra usearch" in caplog.text
    with pytest.raises(ConfigError, match="install the extra usearch"):
        open_index(rows, manifest, Path(rows.url) / "_index" / "usearch")


def test_texts_are_looked_for_in_the_index_that_stands_there(make_job, tmp_path, caplog):
    caplog.set_level("INFO", "embedkit")
    root = run_job(make_job()).dataset
    version = find_version(root)
    exact = search_text(root, TEXT, 8)
    assert "searched in the index" not in caplog.text
    for target in ("usearch", "hnsw"):
        export_version(root, target)
    found = search_text(root, TEXT, 8)
    assert f"searched in the index {version.url}/_index/hnsw" in caplog.text
    # Its graph is built by several threads, each time another one, which may miss a row.
    scores = {(hit.id, hit.place): hit.score for hit in exact}
    both = {(hit.id, hit.place): hit.score for hit in found if (hit.id, hit.place) in scores}
    assert len(found) == 8
    assert len(both) >= 7
    assert both == pytest.approx({place: scores[place] for place in both}, abs=1e-5)
    caplog.clear()
    assert search_text(root, TEXT, 8, exact=True) == exact
    assert "searched in the index" not in caplog.text
    said = call(
        "search", root, TEXT, "-k", "8", "--json", "--index", f"{version.url}/_index/usearch"
    )
    assert len({hit["id"] for hit in said.json} & {hit.id for hit in exact}) >= 7
    assert call("search", root, TEXT, "-k", "8", "--json", "--exact").json == json.loads(
        json.dumps([hit.to_dict() for hit in exact])
    )
    assert "take one of them" in call("search", root, TEXT, "--exact", "--index", "x").error
    # No reader of the version takes anything of it for rows.
    assert len(Dataset.latest(tmp_path / "out").table) == 180
    assert call("validate", root).code == 0
