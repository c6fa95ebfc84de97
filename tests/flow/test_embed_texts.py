"""Texts embedded in memory: the vectors and the rejects of a run, in any thread and process."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from reference_version import BAD, SETTINGS, reference

from embedkit.encoders.local_client import LocalConnection
from embedkit.errors import ConfigError, EncoderError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.flow.embedded_texts import TextReject


@pytest.fixture(scope="module")
def embedder(tiny_model) -> TextEmbedder:
    return TextEmbedder(tiny_model, **SETTINGS)


def test_a_model_may_be_named_by_a_path(tiny_model, embedder):
    assert TextEmbedder(Path(tiny_model), **SETTINGS).model == embedder.model


def by_id(rows, embedded) -> dict:
    results = [one.reason if isinstance(one, TextReject) else one for one in embedded]
    return dict(zip([row["id"] for row in rows], results, strict=True))


def test_vectors_and_reasons_are_those_of_a_run(tiny_model, embedder):
    run = reference(tiny_model)
    assert set(run.reasons) == set(BAD)
    found = by_id(run.rows, embedder.embed([row["text"] for row in run.rows]))
    run.check(found)
    assert len(found) == len(run.rows)


def test_rows_with_a_template_are_joined_as_in_a_run(tiny_model):
    template = "{title?}: {text}"
    run = reference(tiny_model, text_template=template)
    embedder = TextEmbedder(tiny_model, text_template=template, **SETTINGS)
    run.check(by_id(run.rows, embedder.embed_rows(run.rows)))
    # A run makes the digits of a number text where a template joins it.
    assert "number" not in run.reasons


def test_texts_that_are_embedded_alone_differ_within_the_bound(tiny_model, embedder):
    run = reference(tiny_model)
    run.check(
        {row["id"]: by_id([row], embedder.embed([row["text"]]))[row["id"]] for row in run.rows},
        atol=1e-6,
    )


def test_rejects_have_no_number_in_their_vectors_and_say_what_to_do(embedder):
    embedded = embedder.embed(["one", "", "two", None])
    assert list(embedded.rejects) == [1, 3]
    assert np.isnan(embedded.vectors[[1, 3]]).all()
    assert np.isfinite(embedded.vectors[[0, 2]]).all()
    assert "leave the record out" in embedded.rejects[1].detail
    vectors, reasons = embedded.as_columns()
    assert vectors.type == pa.list_(pa.float32())
    assert [one is None for one in vectors.to_pylist()] == [False, True, False, True]
    assert np.array_equal(np.array(vectors.to_pylist()[2], np.float32), embedded.vectors[2])
    assert reasons.to_pylist() == [None, "empty_text", None, "missing_column"]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_nothing_can_be_embedded_of_has_columns_all_the_same(embedder, count):
    embedded = embedder.embed([None] * count)
    assert embedded.vectors.shape == (count, 32)
    vectors, reasons = embedded.as_columns()
    assert (vectors.type, reasons.type) == (pa.list_(pa.float32()), pa.string())
    assert vectors.null_count == len(vectors) == count


class Spoiled:
    """Gives vectors that are not finite for texts of three tokens."""

    packs = False

    def encode_all(self, batches):
        for batch in batches:
            vectors = np.ones((len(batch), 32), np.float32)
            vectors[batch.lengths == 3] = np.inf
            yield vectors


def test_a_vector_that_is_not_finite_is_a_reject(tiny_model):
    embedder = TextEmbedder(tiny_model, pooling="mean", connect=Spoiled)
    embedded = embedder.embed(["one", "corpus vectors reason record"])
    assert [one.reason for one in embedded.rejects.values()] == ["non_finite_vector"]
    assert np.isnan(embedded.vectors[0]).all()


def test_a_text_longer_than_a_record_may_be_is_a_reject(embedder):
    embedded = embedder.embed(["one " * (1 << 22) + "!", "one " * (1 << 15)])
    assert {place: one.reason for place, one in embedded.rejects.items()} == {0: "too_long"}


@pytest.mark.parametrize(
    "value", [np.str_("one"), pa.scalar("one"), type("Name", (str,), {})("one")]
)
def test_strings_of_other_libraries_are_texts(embedder, value):
    assert np.array_equal(embedder.embed([value]).vectors, embedder.embed(["one"]).vectors)


def test_columns_of_arrow_are_texts_and_their_nulls_are_none(embedder):
    embedded = embedder.embed(pa.chunked_array([["one"], [None]]))
    assert np.array_equal(embedded.vectors[0], embedder.embed(["one"]).vectors[0])
    assert embedded.rejects[1].reason == "missing_column"


def test_threads_share_it_and_each_connects_for_itself(tiny_model):
    connected = []

    def connect():
        connected.append(threading.get_ident())
        return LocalConnection(embedder.model)()

    embedder = TextEmbedder(tiny_model, connect=connect, **SETTINGS)
    expected = TextEmbedder(tiny_model, **SETTINGS).embed(["one", "two three"]).vectors
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(embedder.embed(["one", "two three"]).vectors))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(np.array_equal(one, expected) for one in found)
    assert len(found) == len(connected) == 8


def test_it_is_pickled_without_what_it_loaded(tiny_model, embedder):
    embedder.embed(["one"])
    data = pickle.dumps(embedder)
    assert len(data) < 4096
    copy = pickle.loads(data)
    assert copy.model == embedder.model
    assert np.array_equal(copy.embed(["one"]).vectors, embedder.embed(["one"]).vectors)
    assert pickle.dumps(copy) == data


def test_a_long_batch_is_cut_like_a_run_would_cut_it(embedder):
    # More than a slice has, and than one call to an encoder has rows.
    texts = ["one " * 5] * 5000 + ["two"]
    vectors = embedder.embed(texts).vectors
    assert np.isfinite(vectors).all()
    assert (vectors[:5000] == vectors[0]).all()
    assert not np.array_equal(vectors[5000], vectors[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_token": 3}, "max_token: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"text_template": "no column"}, "text_template 'no column': names no column"),
        ({"precision": "float4"}, "precision: "),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(tiny_model, settings, said):
    with pytest.raises(ConfigError, match=said) as error:
        TextEmbedder(tiny_model, **(SETTINGS | settings))
    assert "\n" not in str(error.value)


def test_rows_that_are_none_and_texts_for_a_template_are_refused(tiny_model, embedder):
    with pytest.raises(ConfigError, match="an element is a int"):
        embedder.embed_rows([3])
    with pytest.raises(ConfigError, match=r"as \[text\]"):
        embedder.embed("one")
    for columns in (
        {"text": ["one"]},
        pd.DataFrame({"text": ["one"]}),
        pa.table({"text": ["one"]}),
    ):
        with pytest.raises(ConfigError, match=r"texts: a .*, expected a list of texts"):
            embedder.embed(columns)
    two = TextEmbedder(tiny_model, text_template="{a} {b}", **SETTINGS)
    with pytest.raises(ConfigError, match="takes several columns"):
        two.embed(["one"])
    with pytest.raises(ConfigError, match="columns: b is missing of a, b"):
        two.embed_columns({"a": ["one"]})
    with pytest.raises(ConfigError, match="columns: a has 1, b has 2 values"):
        two.embed_columns({"a": ["one"], "b": ["one", "two"]})


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (b"abc", r"a single text, expected a list of them, as \[text\]"),
        (None, "a NoneType, expected a list of texts"),
        (3, "a int, expected a list of texts"),
        ({"a", "b"}, "a set, expected a list of texts"),
        (np.array("one"), "a ndarray, expected a list of texts"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(embedder, texts, said):
    with pytest.raises(ConfigError, match=f"texts: {said}"):
        embedder.embed(texts)
    with pytest.raises(ConfigError, match=f"text: {said}"):
        embedder.embed_columns({"text": texts})


class Later:
    """A table that is still to be computed."""

    columns = ("text",)
    collect = None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "text is there twice; rename one"),
        (pa.table([["a"], ["b"]], names=["text", "text"]), "text is there twice; rename one"),
        (pd.Series({"text": "abc"}), "a Series, expected a mapping of names"),
        ([{"text": "abc"}], "a list, expected a mapping .* call embed_rows with rows"),
        (Later(), "a Later, expected a mapping"),
    ],
)
def test_what_has_no_columns_is_refused(embedder, columns, said):
    with pytest.raises(ConfigError, match=f"columns: {said}"):
        embedder.embed_columns(columns)


def test_a_table_of_pandas_or_arrow_has_columns(embedder):
    texts = ["rain", None, "a fox"]
    alone = embedder.embed(texts).vectors
    for table in (
        pd.DataFrame({"text": texts}, index=[7, 7, 7]),
        pa.table({"text": texts}),
        pa.RecordBatch.from_pydict({"text": texts}),
    ):
        np.testing.assert_array_equal(embedder.embed_columns(table).vectors, alone)


def test_what_is_missing_in_pandas_is_no_text(tiny_model, embedder):
    frame = pd.DataFrame({"title": ["A fox", None], "text": ["rain", "rain"]})
    missing = [{"title": None, "text": "rain"}, {"title": float("nan"), "text": "rain"}]
    missing += [{"title": value, "text": "rain"} for value in (pd.NA, np.nan, np.ma.masked)]
    both = TextEmbedder(tiny_model, text_template="{title}. {text}", **SETTINGS)
    wanted = both.embed_columns({"title": [""], "text": ["rain"]}).vectors[0]
    found = both.embed_columns(frame).vectors[1], *both.embed_rows(missing).vectors
    np.testing.assert_allclose(found, [wanted] * 6, atol=1e-6)
    rejects = embedder.embed(["rain", float("nan"), np.float32("nan")]).rejects
    assert [rejects[place].reason for place in (1, 2)] == ["missing_column"] * 2


def test_vectors_of_words_are_no_column(tiny_model):
    words = TextEmbedder(tiny_model, granularity="word", **SETTINGS)
    with pytest.raises(ConfigError, match="a text has many vectors of words or tokens"):
        words.embed(["rain fox", None]).as_columns()


@pytest.mark.parametrize("model", [None, 3])
def test_what_is_no_model_is_said_in_one_line(model):
    with pytest.raises(ConfigError, match="model: "):
        TextEmbedder(model)


def test_a_lost_encoder_is_an_error_and_no_reject(tiny_model):
    def connect():
        raise EncoderError("an encoder was lost: it was pulled")

    embedder = TextEmbedder(tiny_model, connect=connect, **SETTINGS)
    with pytest.raises(EncoderError, match="it was pulled"):
        embedder.embed(["one"])


def test_encoders_of_another_model_are_refused(tiny_model, embedder):
    other = TextEmbedder(tiny_model, **(SETTINGS | {"prompt": "other: ", "max_tokens": 9}))
    with pytest.raises(ConfigError, match=r"with other settings \(max_tokens, prompt\)"):
        TextEmbedder(tiny_model, connect=LocalConnection(other.model), **SETTINGS)
    same = TextEmbedder(tiny_model, connect=LocalConnection(embedder.model), **SETTINGS)
    assert np.array_equal(same.embed(["one"]).vectors, embedder.embed(["one"]).vectors)


@pytest.mark.parametrize("width", [1, 16])
def test_vectors_of_another_width_are_refused(tiny_model, width):
    class Other:
        def encode_all(self, batches):
            return (np.ones((len(batch), width), np.float32) for batch in batches)

    with pytest.raises(ConfigError, match=rf"vectors of {width} components, .* have 32;"):
        TextEmbedder(tiny_model, connect=Other, **SETTINGS).embed(["one"])


_FORK = """
import os, sys
from embedkit.flow.embed_texts import TextEmbedder
embedder = TextEmbedder(sys.argv[1], pooling="mean", backend=sys.argv[2])
if sys.argv[3] == "after":
    embedder.embed(["one"])
child = os.fork()
if child == 0:
    try:
        print(embedder.embed(["one"]).vectors.shape, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.soak
@pytest.mark.parametrize(
    ("backend", "when", "said"),
    [
        ("torch", "before", "(1, 32)"),
        ("torch", "after", "ConfigError process"),
        ("openvino", "after", "ConfigError process"),
    ],
)
def test_a_fork_encodes_or_says_why_not_but_never_hangs(
    tiny_model, monkeypatch, backend, when, said
):
    # Set to true, it has the tokenizers library itself hang in a fork.
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    process = subprocess.run(
        [sys.executable, "-c", _FORK, tiny_model, backend, when],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert process.stdout.startswith(said), process.stdout + process.stderr
