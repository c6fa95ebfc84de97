"""Hugging Face datasets, embedded by ``map`` and parted in what has a vector and what has none."""

import os
import pickle
import shutil
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets.fingerprint import Hasher
from reference_version import SETTINGS, reference

from embedkit.errors import ConfigError
from embedkit.flow.embed_batches import EmbedExamples, part_rejects

datasets.disable_progress_bars()

FORMATS = [None, "numpy", "torch", "pandas", "polars", "arrow"]


@pytest.fixture(scope="module")
def embed(tiny_model) -> EmbedExamples:
    return EmbedExamples(tiny_model, **SETTINGS)


@pytest.fixture(scope="module")
def examples(tiny_model) -> datasets.Dataset:
    """All rows of the reference whose text is a string or null, as a column can hold."""
    rows = [
        {"id": row["id"], "text": row["text"], "kind": "x"}
        for row in reference(tiny_model).rows
        if isinstance(row["text"], str | None) and row["id"] != "surrogate"
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    features = {
        "id": datasets.Value("string"),
        "text": datasets.Value("string"),
        "kind": datasets.ClassLabel(names=["x", "y"]),
    }
    columns["kind"] = [0] * len(rows)
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def by_id(dataset) -> dict:
    rows = dataset.with_format(None).to_list()
    assert all((row["embedding"] is None) == (row["reject"] is not None) for row in rows)
    return {row["id"]: row["reject"] or np.array(row["embedding"], np.float32) for row in rows}


def test_vectors_and_reasons_are_those_of_a_run(tiny_model, embed, examples):
    mapped = examples.map(embed, batched=True, batch_size=None)
    found = by_id(mapped)
    reference(tiny_model).check(found, atol=1e-6)
    assert len(found) == len(examples)
    assert mapped.features["embedding"] == datasets.List(datasets.Value("float32"))
    assert mapped.features["kind"] == examples.features["kind"]


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batches_without_any_vector_or_any_reject_fit_together(embed, examples, batch_size):
    chosen = [1, 3, 5, 0, 2, 4]
    assert sum(text is not None and text.strip() != "" for text in examples[chosen]["text"]) == 3
    mapped = examples.select(chosen).map(embed, batched=True, batch_size=batch_size)
    assert [one is None for one in mapped["embedding"]] == [True] * 3 + [False] * 3
    assert [one is None for one in mapped["reject"]] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_rows_in_two_parts(tiny_model, embed, examples, kind):
    mapped = examples.with_format(kind).map(embed, batched=True, batch_size=16)
    embedded, rejects = part_rejects(mapped)
    assert embedded.features["embedding"] == datasets.List(datasets.Value("float32"), length=32)
    assert (embedded.format["type"], rejects.format["type"]) == (kind, kind)
    assert "reject" not in embedded.features
    assert "embedding" not in rejects.features
    vectors = dict(
        zip(
            embedded.with_format(None)["id"],
            embedded.with_format("numpy")["embedding"],
            strict=True,
        )
    )
    reasons = dict(
        zip(rejects.with_format(None)["id"], rejects.with_format(None)["reject"], strict=True)
    )
    reference(tiny_model).check(vectors | reasons, atol=1e-6)
    assert len(vectors) + len(reasons) == len(examples)


def test_what_was_mapped_is_written_to_parquet_and_read_back(embed, examples, tmp_path):
    mapped = examples.map(embed, batched=True)
    mapped.to_parquet(tmp_path / "all.parquet")
    assert pq.read_table(tmp_path / "all.parquet")["embedding"].null_count > 0
    part_rejects(mapped)[0].to_parquet(tmp_path / "embedded.parquet")
    assert pq.read_table(tmp_path / "embedded.parquet")["embedding"].type.list_size == 32


def test_streams_and_dictionaries_of_splits_are_mapped_alike(embed, examples):
    stream = examples.to_iterable_dataset().map(embed, batched=True, batch_size=7)
    expected = examples.map(embed, batched=True, batch_size=7)
    assert list(stream) == expected.to_list()
    with pytest.raises(ConfigError, match="embedded anew by every pass"):
        part_rejects(stream)
    both = datasets.DatasetDict({"train": examples, "test": examples.select([0, 1])})
    embedded, rejects = part_rejects(both.map(embed, batched=True))
    assert (embedded["test"].num_rows, rejects["test"].num_rows) == (1, 1)
    assert embedded["train"].num_rows + rejects["train"].num_rows == len(examples)


def test_what_is_empty_or_was_not_embedded_is_parted_or_said(embed, examples):
    empty = examples.select([]).map(embed, batched=True)
    embedded, rejects = part_rejects(empty)
    assert (len(embedded), len(rejects)) == (0, 0)
    with pytest.raises(ConfigError, match="has no column embedding, but id, text, kind"):
        part_rejects(examples)
    embedded, rejects = part_rejects(examples.select([0, 2]).map(embed, batched=True))
    assert (len(embedded), len(rejects), rejects["reject"][:]) == (2, 0, [])


def test_a_large_batch_is_no_python_list_of_numbers(embed):
    columns = embed({"text": ["one", None, "two"]})
    assert [sys.getsizeof(column) < 200 for column in columns.values()] == [True, True]
    assert list(columns["reject"]) == [None, "missing_column", None] == columns["reject"][:]
    assert columns["embedding"][1] is None
    assert len(columns["embedding"][2]) == 32


def test_columns_that_were_not_mapped_are_lists_of_what_is_in_them(embed):
    columns = embed({"text": ["one", "two", ""]})
    vectors = embed.embedder.embed(["one", "two"]).vectors
    assert columns["reject"] == [None, None, "empty_text"]
    assert "empty_text" in columns["reject"]
    # NumPy asks a list for none of its methods.
    found = embed({"text": ["one", "two"]})["embedding"]
    assert np.array_equal(np.array(found), vectors)
    shown = datasets.Dataset.from_dict({"text": ["one", "two"]}).with_transform(embed)[:]
    assert np.array_equal(np.array(shown["embedding"]), vectors)


def test_columns_may_be_joined_nested_left_out_and_named(tiny_model):
    rows = {"doc": [{"title": "one", "body": "two"}, {"title": None, "body": "three"}, None]}
    dataset = datasets.Dataset.from_dict(rows)
    joined = EmbedExamples(
        tiny_model,
        text_template="{doc.title} {doc.body} {more?}",
        embedding_column="vector",
        reject_column="why",
        **SETTINGS,
    )
    mapped = dataset.map(joined, batched=True, remove_columns=["doc"])
    assert mapped.column_names == ["vector", "why"]
    assert mapped["why"][:] == [None, None, "missing_column"]
    texts = joined.embedder.__class__(tiny_model, **SETTINGS).embed(["one two ", " three "])
    assert np.array_equal(np.array(mapped["vector"][:2], np.float32), texts.vectors)
    embedded, rejects = part_rejects(mapped, embedding_column="vector", reject_column="why")
    assert (embedded.column_names, rejects.column_names) == (["vector"], ["why"])


def test_what_is_missing_in_pandas_is_no_text(tiny_model, embed):
    frame = pd.DataFrame({"text": ["one", None, np.nan, pd.NA]}, dtype=object)
    assert embed(frame)["reject"].to_pylist() == [None, *["missing_column"] * 3]
    joined = EmbedExamples(tiny_model, text_template="{text} {n}", **SETTINGS)
    frame = pd.DataFrame({"text": [np.nan, "one"], "n": [1.5, np.nan]})
    alone = EmbedExamples(tiny_model, **SETTINGS)(pd.DataFrame({"text": [" 1.5", "one "]}))
    assert joined(frame)["embedding"].equals(alone["embedding"])


def test_a_template_of_columns_that_need_not_be_there_rejects_rows_without_any(tiny_model):
    embed = EmbedExamples(tiny_model, text_template="{title?}", **SETTINGS)
    mapped = datasets.Dataset.from_dict({"body": ["one", "two"]}).map(embed, batched=True)
    assert (mapped["embedding"][:], mapped["reject"][:]) == ([None] * 2, ["missing_column"] * 2)


def test_vectors_and_reasons_cannot_share_a_column(tiny_model):
    with pytest.raises(ConfigError, match="reject_column: x takes the vectors already"):
        EmbedExamples(tiny_model, embedding_column="x", reject_column="x", **SETTINGS)


@pytest.mark.parametrize(
    ("mapped", "said"),
    [
        (lambda data, embed: data.map(embed), "is a single str, not that of a batch"),
        (lambda data, embed: data.map(embed, batched=True, input_columns=["text"]), "not a list"),
        (
            lambda data, embed: data.rename_column("text", "body").map(embed, batched=True),
            "has no column text, but id, body, kind",
        ),
        (
            lambda data, embed: data.rename_column("kind", "reject").map(embed, batched=True),
            "has a column reject already",
        ),
        (
            lambda data, embed: data.map(embed, batched=True).map(embed, batched=True),
            "has a column embedding already",
        ),
    ],
)
def test_a_wrong_use_is_said_in_one_line(embed, examples, mapped, said):
    with pytest.raises(ConfigError, match=said) as error:
        mapped(examples.select([0]), embed)
    assert "\n" not in str(error.value)


def test_the_fingerprint_is_that_of_the_settings_and_the_files_of_the_model(
    tiny_model, embed, tmp_path
):
    """What datasets keeps in its cache is found again by it, and nothing else is."""
    known = Hasher.hash(embed)
    embed({"text": ["one"]})
    assert Hasher.hash(embed) == known
    assert Hasher.hash(EmbedExamples(tiny_model, **SETTINGS)) == known
    others = [
        EmbedExamples(tiny_model, **(SETTINGS | {"prompt": "other: "})),
        EmbedExamples(tiny_model, text_column="body", **SETTINGS),
        EmbedExamples(tiny_model, reject_column="why", **SETTINGS),
    ]
    assert len({known, *map(Hasher.hash, others)}) == 4
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    before = Hasher.hash(EmbedExamples(str(copy), **SETTINGS))
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert Hasher.hash(EmbedExamples(str(copy), **SETTINGS)) != before


def test_the_fingerprint_is_the_same_in_every_process(embed):
    code = (
        "import pickle, sys; from datasets.fingerprint import Hasher;"
        "print(Hasher.hash(pickle.load(sys.stdin.buffer)))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(embed),
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )
    assert process.stdout.decode().strip() == Hasher.hash(embed)
