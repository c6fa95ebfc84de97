"""What a report says of the clusters of its sample."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.cluster import contingency_matrix

from embedkit.reports.map import clusters
from embedkit.reports.render import render_html

WORDS = ("ship sea sail", "bread flour oven", "goal match ball", "stars orbit moon")
HOSTILE = "<b>a.jsonl</b>"


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch):
    monkeypatch.setattr(clusters, "LEAST_ROWS", 200)


@pytest.fixture
def planted(make_block):
    """Four subjects in two files: three of them in the first, all but some rows."""

    def make(width=16):
        random = np.random.default_rng(0)
        kinds = [random.choice(4, 180, p=[0.5, 0.3, 0.2, 0]), random.choice(4, 120, p=[0, 0, 0, 1])]
        kinds[1][:10] = 0
        blocks = []
        for seq, kind in enumerate(kinds):
            vectors = np.eye(width)[kind] + 0.05 * random.normal(size=(len(kind), width))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            texts = [f"{WORDS[one]} number{place}x{seq}" for place, one in enumerate(kind)]
            source = ("b.jsonl", HOSTILE)[seq]
            blocks.append(
                make_block(texts, vectors.astype(np.float32), seq=seq, split=seq, source=source)
            )
        return blocks, np.concatenate(kinds), np.repeat([0, 1], [180, 120])

    return make


def test_planted_subjects_are_found_named_and_told_by_file(make_report, planted):
    blocks, kinds, files = planted()
    report = make_report(blocks)
    found = report["clusters"]
    assert found["measured"]
    assert (found["rows"], found["sources"], found["named"]) == (300, 2, True)
    sizes = np.bincount(kinds)
    order = np.argsort(-sizes, kind="stable")
    assert [one["rows"] for one in found["clusters"]] == sizes[order].tolist()
    for one, kind in zip(found["clusters"], order, strict=True):
        assert set(one["terms"]) == set(WORDS[kind].split())
        assert one["share"] == pytest.approx(sizes[kind] / 300, abs=1e-6)
    vectors = np.concatenate([np.stack(one.rows["embedding"].to_numpy(False)) for one in blocks])
    texts = [text for one in blocks for text in one.rows["text"].to_pylist()]
    for one, kind in zip(found["clusters"], order, strict=True):
        cosines = np.where(kinds == kind, vectors @ vectors[kinds == kind].mean(axis=0), -1)
        assert one["example"] in [texts[place] for place in np.argsort(-cosines)[:3]]
    table = contingency_matrix(files, kinds)
    assert found["purity"] == pytest.approx(table.max(axis=0).sum() / 300, abs=1e-6)
    assert found["largest_source"] == 0.6
    for one, kind in zip(found["clusters"], order, strict=True):
        shares = table[:, kind] / table[:, kind].sum()
        assert one["source"] == ("b.jsonl", HOSTILE)[shares.argmax()]
        assert one["source_share"] == pytest.approx(shares.max(), abs=1e-6)
    page = render_html(report)
    assert "ship, " in page or "sea, " in page
    assert HOSTILE not in page
    assert "&lt;b&gt;a.jsonl&lt;/b&gt;" in page


def test_without_texts_they_have_no_names(make_report, planted, monkeypatch):
    blocks, *_ = planted()
    bare = [replace(one, rows=one.rows.drop_columns(["text"])) for one in blocks]
    report = make_report(bare)
    assert report["clusters"]["measured"]
    assert all(one["terms"] == [] for one in report["clusters"]["clusters"])
    page = render_html(report)
    assert "no texts were read to name them" in page
    assert "flour" not in page


def test_one_file_is_not_told_of(make_report, planted):
    blocks, *_ = planted()
    page = render_html(make_report([blocks[0], *blocks[:0]]))
    assert "Mostly from" not in page


def test_equal_texts_count_once_and_too_few_of_them_say_why(make_report, make_block):
    random = np.random.default_rng(1)
    vectors = random.normal(size=(240, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    block = make_block([f"text {place % 150}" for place in range(240)], vectors)
    report = make_report([block])
    assert not report["clusters"]["measured"]
    assert "too few rows of the sample have different texts" in render_html(report)


def test_without_a_library_the_report_names_the_extra(make_report, planted, monkeypatch):
    monkeypatch.setattr(clusters, "find_clusters", lambda units: None)
    report = make_report(planted()[0])
    assert "install faiss-cpu" in report["clusters"]["why"]
    assert "install faiss-cpu" in render_html(report)


def test_a_small_version_has_no_such_section_and_loads_nothing(
    make_report, make_block, monkeypatch
):
    monkeypatch.setattr(clusters, "find_clusters", lambda units: pytest.fail("looked for"))
    assert "clusters" not in make_report([make_block([f"text {n}" for n in range(199)])])
