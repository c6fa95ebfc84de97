"""Arguments of another kind than a function takes: one line that says so, or what was meant."""

import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from running import tiny_job

from embedkit import (
    CorpusConfig,
    EmbedCorpus,
    EvaluationConfig,
    JobConfig,
    ModelConfig,
    OutputConfig,
    ReadCorpus,
    ReadVersion,
    combined_words,
    diff_versions,
    distill_static,
    encode_query,
    evaluate_version,
    export_version,
    list_versions,
    open_version,
    open_words,
    plan_job,
    project_words,
    ranked_by_centrality,
    read_model,
    run_job,
    search_text,
    similar_words,
    train_word2vec,
    vectors_of,
)
from embedkit.dataset.store_keys import normalize_root
from embedkit.errors import ConfigError, EmbedkitError, RemovedError
from embedkit.search.words import WordVectors

NO_PATHS = [None, 3, b"out", ["out"], {"out": 1}, object()]
NO_SETTINGS = [None, {}, "job.yaml", JobConfig, CorpusConfig(inputs=("a",))]


class Frame:
    """As much of a table of pandas or Polars as can be told without importing either."""

    columns = ("text",)

    def __iter__(self):
        return iter(self.columns)


@pytest.fixture(scope="module")
def made(tiny_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "a.jsonl").write_text("".join(f'{{"text": "text {n}"}}\n' for n in range(20)))
    run_job(tiny_job(tiny_model, folder / "a.jsonl", folder / "out", engine="plain"))
    return folder / "out"


class Words:
    words = ("cat", "dog", "king", "a", "c")
    matrix = np.eye(5, dtype=np.float32)

    def index_of(self, word: str) -> int | None:
        return self.words.index(word) if word in self.words else None


@pytest.fixture
def words() -> WordVectors:
    return Words()


def said_by(call) -> str:
    with pytest.raises(EmbedkitError) as error:
        call()
    said = str(error.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("given", NO_SETTINGS, ids=repr)
@pytest.mark.parametrize("function", [run_job, plan_job, train_word2vec, distill_static])
def test_settings_of_another_kind(function, given):
    assert "config: expected " in said_by(lambda: function(given))


def test_other_settings_of_another_kind(made, tiny_model):
    for given in ({}, None, "title"):
        said = said_by(lambda given=given: evaluate_version(made, given))
        assert "expected EvaluationConfig" in said
    job = JobConfig(inputs=("a",), model=tiny_model, output="x")
    assert "evaluation: exp" in said_by(lambda: run_job(job, evaluation={"storage": True}))
    assert "expected ModelConfig" in said_by(lambda: read_model(tiny_model))
    model, output = ModelConfig(model=tiny_model), OutputConfig(output="x", version="v")
    assert "records: expected RecordConfig, got dict" in said_by(
        lambda: EmbedCorpus(model, output, {"text_column": "text"})
    )


def test_transforms_that_begin_a_pipeline(made):
    pipeline = beam.Pipeline()
    rows = pipeline | beam.Create([1])
    corpus = CorpusConfig(inputs=(str(made),))
    assert "corpus: expected CorpusConfig" in said_by(lambda: pipeline | ReadCorpus("docs.jsonl"))
    assert "apply it to the pipeline" in said_by(lambda: rows | "Other" >> ReadCorpus(corpus))
    assert "apply it to the pipeline" in said_by(lambda: rows | ReadVersion(made))


@pytest.mark.parametrize("given", NO_PATHS, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize(
    "function",
    [
        open_version,
        open_words,
        list_versions,
        lambda given: diff_versions(given, given),
        lambda given: search_text(given, "text"),
        lambda given: export_version(given, "npy"),
    ],
)
def test_paths_of_another_kind(function, given):
    assert f"expected a path or URL, got {type(given).__name__}" in said_by(lambda: function(given))


def test_the_users_own_folder(made, monkeypatch, tiny_model):
    home = made.parent
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    assert len(open_version("~/out")) == 20
    assert list_versions("~/out")
    job = JobConfig(inputs="~/a.jsonl", model="~/model", output="~/new")
    assert (job.model, job.output) == (f"{home}/model", f"{home}/new")
    assert EvaluationConfig(sts="~/sts.csv").sts == (f"{home}/sts.csv",)
    run_job(tiny_job(tiny_model, "~/a.jsonl", "~/new", engine="plain"))
    assert len(open_version(home / "new")) == 20
    assert not (home / "~").exists()
    # Somebody else's folder it may be, but is not meant.
    for name in ("~root", "~root/x", "~backup"):
        assert JobConfig(inputs="a", model="m", output=name).output == name
        assert normalize_root(name) == f"{home}/{name}"


@pytest.mark.parametrize("given", [None, np.nan, 3, ["text"], b"text", np.array(["text"])])
def test_texts_of_another_kind(made, given):
    for look in (search_text, encode_query):
        said = said_by(lambda look=look: look(made, given))
        assert f"expected text, got {type(given).__name__}" in said


QUERIES = {
    "masked": np.ma.masked_all(8),
    "dates": np.zeros(8, "datetime64[s]"),
    "strings": ["0.1"] * 8,
    "complex": np.ones(8) * 1j,
    "nothing": None,
    "a number": 3,
}


@pytest.mark.parametrize("queries", QUERIES.values(), ids=QUERIES)
def test_queries_of_another_kind(made, queries):
    assert "queries: no vectors" in said_by(lambda: open_version(made).search(queries))


@pytest.mark.parametrize("k", [0, -1, True, False, None, "3", 3.0, np.nan])
def test_numbers_of_hits_of_another_kind(made, words, k):
    assert "expected a whole number" in said_by(lambda: similar_words(words, "cat", k))
    assert "expected a whole number" in said_by(lambda: search_text(made, "text", k))


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_numbers_of_numpy_do_with_an_index_too(made, tmp_path, kind):
    root = tmp_path / "out"
    shutil.copytree(made, root)
    assert len(search_text(root, "text 3", kind(2))) == 2
    for target in ("faiss", "usearch"):
        export_version(root, target, recall=np.float32(0.9))
        assert search_text(root, "text 3", kind(2)) == search_text(root, "text 3", 2)
        shutil.rmtree(next(root.glob("*/_index")))
    for recall in ("0.9", None, np.nan):
        assert "recall is" in said_by(
            lambda recall=recall: export_version(root, "faiss", recall=recall)
        )
    assert "no target" in said_by(lambda: export_version(root, ["npy"]))


def test_words_of_another_kind(words):
    for given in ("king", None, 3):
        for call in (
            lambda given=given: combined_words(words, given, []),
            lambda given=given: combined_words(words, ["cat"], given),
            lambda given=given: ranked_by_centrality(words, given),
            lambda given=given: project_words(words, given),
        ):
            assert f"expected words, got {type(given).__name__}" in said_by(call)
    assert "as ['king']" in said_by(lambda: project_words(words, "king"))
    assert "expected text, got list" in said_by(lambda: similar_words(words, ["cat"]))
    assert "no words" in said_by(lambda: combined_words(words, [], []))
    expected = ranked_by_centrality(words, ["cat", "dog", "king"])
    assert ranked_by_centrality(words, (one for one in ("cat", "dog", "king"))) == expected


def test_rows_of_another_kind(made):
    version = open_version(made)
    rows = next(iter(version.to_batches()))
    assert len(vectors_of(rows)) == len(vectors_of(pa.table(rows))) == len(rows)
    for given in (None, version, Frame(), rows.to_pylist(), rows["embedding"]):
        assert "expected rows as Arrow has them" in said_by(lambda given=given: vectors_of(given))
    assert "have no column embedding" in said_by(lambda: vectors_of(rows.select(["id"])))
    twice = pa.RecordBatch.from_arrays([rows["embedding"]] * 2, ["embedding"] * 2)
    assert "have two columns embedding" in said_by(lambda: vectors_of(twice))


@pytest.mark.parametrize("setting", ["inputs", "words", "metadata_columns"])
@pytest.mark.parametrize(
    "given", [{"a", "b"}, {"a": 1}, Frame()], ids=lambda one: type(one).__name__
)
def test_lists_of_another_kind(setting, given):
    settings = {"inputs": ("a",), "model": "m", "output": "o", setting: given}
    assert f"{setting}: expected a list" in said_by(lambda: JobConfig(**settings))


def test_lists_of_any_kind_that_have_an_order():
    names = ["a.jsonl", "b.jsonl"]
    lists = (names, tuple(names), dict.fromkeys(names).keys(), (name for name in names))
    for given in (*lists, pd.Series(names), np.array(names), map(str, names), map(Path, names)):
        assert CorpusConfig(inputs=given).inputs == tuple(names)


@pytest.mark.parametrize("setting", ["words", "columns", "metadata_columns"])
@pytest.mark.parametrize("given", [["rain", None], [1, 2], ("a", 1.5)])
def test_members_of_lists_of_another_kind(setting, given):
    settings = {"inputs": ("a",), "model": "m", "output": "o", setting: given}
    assert setting in said_by(lambda: JobConfig(**settings))


@pytest.mark.parametrize("given", ["", [""], ("a", "")])
def test_an_empty_name_is_no_file(given):
    assert "inputs: an empty name" in said_by(lambda: CorpusConfig(inputs=given))
    assert "model: an empty name" in said_by(lambda: ModelConfig(model=""))


def test_a_version_is_no_place_for_another(made, tiny_model):
    (version,) = [path for path in made.iterdir() if (path / "_meta").is_dir()]
    job = tiny_job(tiny_model, made.parent / "a.jsonl", version, engine="plain", dimensions=4)
    before = sorted(made.rglob("*"))
    assert "a version of a dataset; give its root" in said_by(lambda: run_job(job))
    assert sorted(made.rglob("*")) == before


def test_a_dataset_that_a_version_came_to_lie_around_is_resumed(tmp_path, tiny_model):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    inner = tiny_job(tiny_model, tmp_path / "a.jsonl", tmp_path / "out" / "v1", engine="plain")
    made = run_job(inner)
    around = {"output": tmp_path / "out", "version": "v1"}
    run_job(tiny_job(tiny_model, tmp_path / "a.jsonl", engine="plain", **around))
    assert run_job(inner).version == made.version


def test_a_version_that_is_gone_says_nothing_of_itself(made, tmp_path):
    root = tmp_path / "out"
    shutil.copytree(made, root)
    version = open_version(root)
    shutil.rmtree(root)
    with pytest.raises(RemovedError):
        _ = version.metadata


def test_what_is_shown_of_objects_is_short(made, tmp_path):
    from embedkit.encoders.static.vectors import StaticVectors

    vectors = StaticVectors(
        [f"word{n}" for n in range(1000)], np.zeros((1000, 3), np.float32), True
    )
    assert repr(vectors) == "StaticVectors(1,000 words of 3 components)"
    diff = diff_versions(made, made)
    assert len(repr(diff)) < 2000
    assert list(diff.rows("changed")) == []
    with pytest.raises(ConfigError):
        open_version(tmp_path / "none")
