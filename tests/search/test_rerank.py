"""Hits of a search put in order by a cross-encoder, held against CrossEncoder itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from calling import call
from running import job_maker, write_jsonl
from sentence_transformers import CrossEncoder
from tiny_cross import save_cross_encoder

from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.search.exact import Hit
from embedkit.search.query import search_text
from embedkit.search.rerank import Reranker

QUERY = "seven of the corpus"


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def root(tiny_model, tmp_path_factory):
    job = job_maker(tiny_model, tmp_path_factory.mktemp("made"))(store_text=True)
    run_job(job)
    return job.output


def test_the_nearest_rows_in_the_cross_encoder_s_order(root, cross):
    nearest = search_text(root, QUERY, 20)
    scores = CrossEncoder(cross, device="cpu").predict([(QUERY, hit.text) for hit in nearest])
    order = np.argsort(-scores, kind="stable")
    hits = search_text(root, QUERY, 5, rerank=cross, rerank_candidates=20)
    assert [hit.id for hit in hits] == [nearest[place].id for place in order[:5]]
    for hit, place in zip(hits, order, strict=False):
        assert hit.rerank_score == pytest.approx(scores[place], abs=2e-5)
        assert replace(hit, rerank_score=None) == nearest[place]


def test_50_candidates_or_as_many_as_are_wanted(root, cross, monkeypatch):
    seen = []
    scores = Reranker.scores

    def noted(self, query, texts):
        seen.append((query, len(texts)))
        return scores(self, query, texts)

    monkeypatch.setattr(Reranker, "scores", noted)
    assert len(search_text(root, QUERY, 3, rerank=cross)) == 3
    assert len(search_text(root, QUERY, 60, rerank=cross)) == 60
    # The query's prompt is the bi-encoder's alone.
    search_text(root, QUERY, 1, rerank=cross, rerank_candidates=7, prompt="query: ")
    assert seen == [(QUERY, 50), (QUERY, 60), (QUERY, 7)]


def test_equal_scores_keep_their_order_and_what_is_not_finite_comes_last(cross, monkeypatch):
    hits = [Hit(str(n), str(n), 1.0 - n, "a", n, 0, 1, text="x") for n in range(4)]
    values = np.array([np.nan, 0.5, 0.7, 0.5], dtype=np.float32)
    monkeypatch.setattr(Reranker, "scores", lambda *_: values)
    found = Reranker(cross).rerank("q", hits)
    assert [hit.id for hit in found] == ["2", "1", "3", "0"]
    assert [hit.id for hit in hits] == ["0", "1", "2", "3"]


def test_no_hits(cross):
    assert Reranker(cross).rerank("q", []) == []


def test_what_cannot_be_reranked(root, cross, tiny_model, tmp_path):
    job = job_maker(tiny_model, tmp_path)(limit=20)
    without = run_job(job).dataset
    with pytest.raises(ConfigError, match="the version stores no texts, which a cross-encoder re"):
        search_text(without, QUERY, rerank=cross)
    with pytest.raises(ConfigError, match="no cross-encoder: its config"):
        search_text(root, QUERY, rerank=tiny_model)
    three = save_cross_encoder(tmp_path / "three", labels=3)
    with pytest.raises(ConfigError, match="has 3 labels, and an order needs one score"):
        search_text(root, QUERY, rerank=three)
    with pytest.raises(ConfigError, match="rerank_candidates is 2, but 3 rows are wanted"):
        search_text(root, QUERY, 3, rerank=cross, rerank_candidates=2)
    with pytest.raises(ConfigError, match="rerank_candidates is given without rerank"):
        search_text(root, QUERY, 3, rerank_candidates=20)


def test_the_command_line(root, cross):
    arguments = ("search", root, QUERY, "-k", "2", "--rerank", cross)
    first, second = call(*arguments, "--json").json
    assert first["rerank_score"] >= second["rerank_score"]
    lines = call(*arguments).out.splitlines()
    assert lines[0].split()[1:3] == [f"{first['rerank_score']:.4f}", f"[{first['score']:.4f}]"]
    assert "rerank_score" not in call("search", root, QUERY, "-k", "1", "--json").json[0]


def test_pairs_by_the_command_line(cross, tmp_path):
    rows = [{"query": QUERY, "text": f"text {n}", "question": "why"} for n in range(3)]
    corpus = write_jsonl(tmp_path / "pairs.jsonl", rows)
    common = ("--model", cross, "--engine", "plain", "--precision", "float32", "--json")
    named = ("--query-column", "question")
    for flags in ((), named):
        root = str(tmp_path / f"out{len(flags)}")
        done = call("rerank", str(corpus), *common, *flags, "--output", root)
        assert (done.code, done.json["rows"]) == (0, 3)
        # The same as a run that is told of the query.
        again = call(
            "run", str(corpus), *common, *(flags or ("--query-column", "query")), "--output", root
        )
        assert again.json["version"] == done.json["version"]
        refused = call("search", root, QUERY)
        assert "holds scores, and search needs a version with one vector" in refused.error
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps({"query_column": None, "inputs": [str(corpus)]}))
    refused = call("rerank", str(job), *common, "--output", str(tmp_path / "none"))
    assert refused.code == 2 and "query_column: none, but scores are of pairs" in refused.error
    told = call("rerank", "--help").out
    assert "--query-column" in told and "--pooling" not in told
