"""The words of a version, against DuckDB's own means of its vectors."""

import json
import logging
from pathlib import Path

import duckdb
import numpy as np
import pytest
from blocks import Job, small_job
from calling import call
from running import tiny_job, write_jsonl
from span_blocks import OF_WORDS, TEXTS, span_block, span_options
from tiny_models import save_transformer

from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.search.version_words import mean_words
from embedkit.search.word_sources import open_words
from embedkit.search.words import similar_words

MEANS = """
    WITH words AS (
        SELECT {} AS word, embeddings[n]::FLOAT[8] AS vector
        FROM '{}/data/*.parquet', unnest(range(1, len(spans) + 1)) AS _(n)
    ), components AS (
        SELECT word, i, vector[i] AS value FROM words, unnest(range(1, 9)) AS _(i)
    ), means AS (SELECT word, i, avg(value) AS mean, count(*) AS n FROM components GROUP BY word, i)
    SELECT word, list(mean ORDER BY i) AS vector, max(n) AS n FROM means GROUP BY word
"""
OF_TEXT = "substring(text, spans[n].char_start + 1, spans[n].char_end - spans[n].char_start)"


@pytest.fixture
def version(tmp_path) -> Version:
    return Version(str(tmp_path / "root"), "v1")


def made(version: Version, *blocks, **options) -> Version:
    Job(list(blocks), options=span_options(**options), description=dict(OF_WORDS)).complete(version)
    return version


def check(version: Version, word: str) -> None:
    found = mean_words(version)
    expected = duckdb.sql(MEANS.format(word, version.url)).fetchall()
    counts = {one: count for one, _, count in expected}
    assert sorted(found.words) == sorted(counts)
    assert [counts[one] for one in found.words] == sorted(counts.values(), reverse=True)
    for one, vector, _ in expected:
        place = found.index_of(one)
        np.testing.assert_allclose(found.matrix[place], vector, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_word_is_the_mean_of_its_occurrences(version, dtype):
    blocks = [span_block(dtype=dtype), span_block(TEXTS[::-1], split=1, dtype=dtype)]
    made(version, *blocks, store_text=True, vector_dtype=dtype)
    check(version, OF_TEXT)
    assert open_words(version.root).words[0] == "the"
    assert open_words(version.url).index_of("日本") is not None


def test_stored_words_come_before_those_of_the_text(version):
    made(version, span_block(tokens=True), span_block(split=1, tokens=True), store_text=True)
    check(version, "tokens[n]")
    assert "CAT" in mean_words(version).words


def test_words_of_chunks_are_those_of_their_own_text(version):
    made(version, span_block(starts=[0, 40, 70, 100, 7]), store_text=True)
    assert sorted(mean_words(version).words) == sorted(set(" ".join(TEXTS).split()))


def test_many_batches_add_up_and_sums_grow(version, monkeypatch):
    texts = [f"w{number % 37} w{number % 11} x" for number in range(300)]
    made(version, span_block(texts), store_text=True)
    monkeypatch.setattr("embedkit.dataset.parquet._BYTES_AT_ONCE", 2000)
    check(version, OF_TEXT)


def test_words_behind_the_most_are_left_out_with_a_warning(version, caplog):
    made(version, span_block(["a b c", "c a d d", "b"]), store_text=True)
    with caplog.at_level(logging.WARNING):
        found = mean_words(version, most=3)
    assert sorted(found.words) == ["a", "b", "c"]
    assert caplog.messages == [
        "2 occurrences of words that come up behind the first 3 are left out"
    ]


def test_a_version_without_words_is_refused_in_one_line(version, tmp_path):
    made(version, span_block())
    with pytest.raises(ConfigError, match=r"run its job with --store-tokens or --store-text$"):
        open_words(version.root)
    other = Version(str(tmp_path / "other"), "v1")
    small_job().complete(other)
    with pytest.raises(ConfigError, match=r"run its job with --granularity word$"):
        open_words(other.root)
    with pytest.raises(ConfigError, match="no such directory, of static vectors or a dataset"):
        open_words(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="neither a version nor a root"):
        open_words(tmp_path / "empty")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_model_of_another_kind_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=r"neither a modules\.json nor Model2Vec"):
        open_words(tmp_path)


def test_the_words_of_a_run_are_looked_at(tmp_path):
    model = save_transformer(tmp_path / "model", "bert")
    rows = [{"text": text} for text in ("the king and the queen", "a king", "Rain on the roof")]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    job = tiny_job(model, corpus, tmp_path / "root", granularity="word", store_tokens=True)
    run_job(job)
    root = str(tmp_path / "root")
    found = open_words(root)
    assert set(" ".join(row["text"] for row in rows).split()) == set(found.words)
    best = similar_words(found, "king", 3)
    answer = call("words", "similar", root, "king", "-k3", "--json")
    assert [one["word"] for one in answer.json] == [one.word for one in best]
    page = tmp_path / "words.html"
    assert call("words", "project", root, "king", "queen", "Rain", f"--output={page}").code == 0
    assert "queen" in Path(page).read_text()
    assert json.loads(call("words", "doesnt-match", root, "king", "roof", "--json").out)["word"]
