"""From one version to the next: rows whose text did not change keep their vectors, to the byte."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from beam_running import results
from marked import mark_vectors
from releases import copy_of_root, inputs_in_memory, job, version_of
from running import Dataset, records, sentence, tiny_job, write_jsonl
from tiny_cross import save_cross_encoder

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.encoders.static.directory import write_directory
from embedkit.engines.run import run_job
from embedkit.errors import IntegrityError, StoreError
from embedkit.flow import embed
from embedkit.reports.account import RunAccount
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.vectors import vectors_of

SETTINGS = {"id_column": "id", "metadata_columns": ("stars",)}


def night(model, folder: Path, version: str, rows=None, **settings) -> tuple[RunAccount, Dataset]:
    """Runs the job of one night, over shards that it writes first where rows are given."""
    for shard, of_shard in enumerate(rows or ()):
        write_jsonl(folder / "in" / f"shard-{shard}.jsonl", of_shard)
    job = tiny_job(model, folder / "in", folder / "out", version=version, **SETTINGS | settings)
    result = run_job(job)
    assert validate(Version(job.output, version)).problems == ()
    return result, Dataset(folder / "out" / version)


def by_id(dataset: Dataset) -> dict[str, tuple[str, bytes]]:
    """Of each row its text's hash and the bytes of its vectors."""
    found = {}
    for part in dataset.parts:
        table = pq.read_table(part)
        vectors = vectors_of(table)
        names = zip(table["id"].to_pylist(), table["text_hash"].to_pylist(), strict=True)
        for row, (name, text) in enumerate(names):
            found[name] = (text, vectors.of_row(row).tobytes())
    return found


def of_tonight(shards):
    """One row in fifty is changed, one inserted before all, one gone; two have swapped their ids;
    of one the metadata alone is another."""
    first, second = ([dict(row) for row in shard] for shard in shards)
    first[7]["text"] = sentence(907, 9)
    second[3]["text"] = sentence(903, 21)
    first[20]["id"], first[21]["id"] = first[21]["id"], first[20]["id"]
    second[9]["stars"] = 77
    del second[30]
    first.insert(0, {"id": "new", "text": sentence(999, 12), "stars": 1})
    return [first, second], {"new", "doc-00007", "doc-00053"}


@pytest.fixture(scope="module")
def nights(tiny_model, tmp_path_factory):
    """Two nights, the first in bfloat16, so that encoding a text again gives other bytes."""
    folder = tmp_path_factory.mktemp("nights")
    shards = [records(50), records(50, 50)]
    first = night(tiny_model, folder, "first", shards, precision="bfloat16")
    tonight, encoded = of_tonight(shards)
    second = night(tiny_model, folder, "second", tonight, store_text=True)
    return folder, first, second, encoded


def test_unchanged_rows_keep_their_vectors_and_only_the_others_are_encoded(nights):
    _, (_, before), (result, dataset), encoded = nights
    dataset.check_accounts(100)
    old, new = by_id(before), by_id(dataset)
    vectors = {text: vector for text, vector in old.values()}
    assert {name for name, (text, _) in new.items() if text not in vectors} == encoded
    for name, (text, vector) in new.items():
        if name not in encoded:
            assert vector == (old[name][1] if old[name][0] == text else vectors[text])
    rows = {row["id"]: row for row in dataset.table.to_pylist()}
    assert result.tokens_encoded == sum(min(rows[name]["n_tokens"], 64) for name in encoded)
    assert result.tokens_encoded + result.tokens_saved == result.tokens
    assert rows["doc-00059"]["stars"] == 77 and "doc-00080" not in rows


def test_the_counts_of_a_night(nights):
    _, (first, _), (result, dataset), _ = nights
    said = result.to_dict()
    assert {name: said[name] for name in said if name.startswith("rows_")} == {
        "rows_resumed": 0,
        "rows_reused": 97,
        "rows_encoded": 3,
        "rows_added": 1,
        "rows_removed": 1,
        "rows_changed": 4,
    }
    assert first.rows_added is None and first.rows_encoded == 100
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert report["reuse"]["versions"] == {"first": 97}
    assert report["reuse"]["sources"] == [
        {
            "source": "shard-0.jsonl",
            "rows_reused": 49,
            "rows_encoded": 2,
            "rows_added": 1,
            "rows_changed": 3,
            "rows_removed": 0,
        },
        {
            "source": "shard-1.jsonl",
            "rows_reused": 48,
            "rows_encoded": 1,
            "rows_added": 0,
            "rows_changed": 1,
            "rows_removed": 1,
        },
    ]
    page = (dataset.folder / "report" / "report.html").read_text()
    assert "Since the earlier version" in page and "97 rows from" in page
    card = (dataset.folder / "README.md").read_text()
    assert "| rows reused | 97 | with the very vectors of version first |" in card


def test_parts_say_of_what_numerics_their_vectors_are(nights, tiny_model):
    folder, (_, before), (_, dataset), _ = nights

    def said(part):
        metadata = pq.read_schema(part).metadata
        return [json.loads(metadata.get(f"embedkit.{name}".encode(), b"[]")) for name in NUMERICS]

    (old,) = {json.dumps(said(part)) for part in before.parts}
    assert json.loads(old)[0]["precision"] == "bfloat16"
    for part in dataset.parts:
        ours, (theirs,) = said(part)
        assert (ours["precision"], theirs) == ("float32", json.loads(old)[0])
    settings = {"reuse": "second", "reuse_numerics": "same"}
    same, again = night(tiny_model, folder, "same", **settings)
    assert (same.rows_reused, same.rows_encoded, same.rows_changed) == (0, 100, 0)
    # All of it is of tonight's numerics now.
    third, _ = night(tiny_model, folder, "third", reuse="same", reuse_numerics="same")
    assert (third.tokens_encoded, third.rows_reused) == (0, 100)
    assert by_id(Dataset(folder / "out" / "third")) == by_id(again)


NUMERICS = ("numerics", "reused_numerics")


def test_nothing_is_taken_over_where_it_is_not_wanted(nights, tiny_model):
    folder, _, (second, _), _ = nights
    result, _ = night(tiny_model, folder, "anew", reuse="off")
    assert (result.rows_reused, result.rows_added) == (0, None)
    assert result.tokens_encoded == second.tokens


def test_another_recipe_is_named_and_all_is_encoded(nights, tiny_model):
    folder, _, (second, _), _ = nights
    result, dataset = night(tiny_model, folder, "prompted", prompt="one ", reuse="second")
    why = "nothing is taken over from version second: prompt was '' and is 'one '"
    assert result.to_dict()["not_reused"] == why
    assert (result.rows_reused, result.rows_encoded, result.rows_added) == (0, 100, None)
    assert result.tokens_encoded > second.tokens
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert f"N{why[1:]}." in [one["text"] for one in report["run"]["findings"]]
    assert "reuse" not in report["sections"]


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("cross"), "bert", 3)


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    words = sorted({word for row in records(40) for word in row["text"].split()})
    write_directory(folder, np.random.default_rng(1).normal(size=(len(words), 8)), words)
    return str(folder)


KINDS = {
    "float16": {"vector_dtype": "float16"},
    "word": {"granularity": "word", "normalize": False, "pooling": None},
    "token": {"granularity": "token", "normalize": False, "pooling": None},
    "chunk": {"chunk": "tokens", "chunk_tokens": 12},
    "late": {"chunk": "tokens", "chunk_tokens": 12, "late_chunking": True},
    "pairs": {"query_column": "title", "pooling": None, "normalize": None},
    "static": {"pooling": None, "normalize": None, "backend": "auto", "precision": "auto"},
}


OF_SOAK = ("float16", "token", "chunk", "static")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.soak] * (kind in OF_SOAK)) for kind in KINDS]
)
def test_rows_of_every_kind(kind, request, tiny_model, tmp_path):
    models = {"pairs": "cross", "static": "static"}
    model = request.getfixturevalue(models[kind]) if kind in models else tiny_model
    rows = records(12)
    night(model, tmp_path, "first", [rows], **KINDS[kind])
    mark_vectors(Version(str(tmp_path / "out"), "first"))
    rows[3] = {**rows[3], "text": f"{rows[4]['text']} one"}
    result, dataset = night(model, tmp_path, "second", [[rows[11], *rows[:11]]], **KINDS[kind])
    old, new = by_id(Dataset(tmp_path / "out" / "first")), by_id(dataset)
    encoded = {name for name in new if name.partition(":")[0] == "doc-00003"}
    texts = {text: vector for text, vector in old.values()}
    for name, (text, vector) in new.items():
        if text in texts:
            assert vector == (old[name][1] if old.get(name, ("",))[0] == text else texts[text])
        else:
            assert name in encoded
    assert result.rows_reused == sum(text in texts for text, _ in new.values()) >= 11
    assert 0 < result.tokens_encoded < result.tokens / 3
    # One night later all is as it was.
    again, third = night(model, tmp_path, "third", reuse="second", **KINDS[kind])
    assert (again.tokens_encoded, again.rows_reused, by_id(third)) == (0, again.rows, new)


def test_a_run_that_was_killed_counts_as_one_that_was_not(tiny_model, tmp_path, monkeypatch):
    shards = [records(50), records(50, 50)]
    night(tiny_model, tmp_path, "first", shards)
    mark_vectors(Version(str(tmp_path / "out"), "first"))
    tonight, _ = of_tonight(shards)
    undisturbed, whole = night(tiny_model, tmp_path, "second", tonight)
    left = iter([True] * 3)
    real = embed.write_embeddings

    def killed(*arguments):
        if next(left, None) is None:
            raise StoreError("gone")
        return real(*arguments)

    monkeypatch.setattr(embed, "write_embeddings", killed)
    with pytest.raises(StoreError):
        night(tiny_model, tmp_path, "third", reuse="first")
    monkeypatch.undo()
    resumed, dataset = night(tiny_model, tmp_path, "third", reuse="first")
    assert by_id(dataset) == by_id(whole)
    assert resumed.reused == undisturbed.reused
    assert 0 < resumed.rows_resumed < 100
    again, _ = night(tiny_model, tmp_path, "third", reuse="first")
    assert again.already_complete and again.reused == undisturbed.reused


def test_an_earlier_version_that_is_not_complete_is_used_by_name(tiny_model, tmp_path):
    shards = [records(50), records(50, 50)]
    night(tiny_model, tmp_path, "first", shards)
    mark_vectors(Version(str(tmp_path / "out"), "first"))
    folder = tmp_path / "out" / "first"
    for path in ("_SUCCESS", "_meta/manifest.json"):
        (folder / path).unlink()
    gone = sorted((folder / "_meta" / "commits").glob("*.json"))[-1]
    rows = json.loads(gone.read_text())["rows"]
    gone.unlink()
    result, _ = night(tiny_model, tmp_path, "second", reuse="first")
    assert (result.rows_reused, result.rows_added) == (100 - rows, rows)


@pytest.mark.parametrize(
    "name",
    ["complete", "half-done", pytest.param("named-half-done", marks=pytest.mark.soak)],
)
def test_versions_of_the_first_release_are_taken_over(name, tmp_path):
    root = copy_of_root("0.1.0", tmp_path / "root")
    earlier = version_of("0.1.0", name)
    parts = [pq.read_table(part) for part in (root / earlier / "data").glob("*.parquet")]
    commits = list((root / earlier / "_meta" / "commits").iterdir())
    with inputs_in_memory():
        result = run_job(job("0.1.0", name, root, version="next", reuse=earlier))
    assert validate(Version(str(root), "next")).problems == ()
    new = by_id(Dataset(root / "next"))
    known = sum(json.loads(path.read_text())["rows"] for path in commits)
    old = {}
    for table in parts:
        vectors = vectors_of(table)
        for row, one in enumerate(table.select(["id", "text_hash"]).to_pylist()):
            old[one["id"]] = (one["text_hash"], vectors.of_row(row).tobytes())
    assert 0 < known <= result.rows_reused < known + 3
    assert sum(old.get(row) == found for row, found in new.items()) >= known
    assert (result.rows_encoded == 0) == (name == "complete") == (result.tokens_encoded == 0)


def test_a_part_that_is_gone_ends_the_run_with_a_way_on(tiny_model, tmp_path):
    shards = [records(50), records(50, 50)]
    _, first = night(tiny_model, tmp_path, "first", shards)
    tonight, _ = of_tonight(shards)
    first.parts[-1].unlink()
    with pytest.raises(
        IntegrityError, match=r"part-0000.*: in the manifest, but gone;.*--reuse off"
    ):
        night(tiny_model, tmp_path, "second", tonight)
    done = len([*(tmp_path / "out" / "second" / "_meta" / "commits").iterdir()])
    assert done
    result, dataset = night(tiny_model, tmp_path, "second", reuse="off")
    assert result.rows_resumed and result.rows_removed is None
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert any(
        "compared nothing with an earlier version" in one["text"] for one in report["findings"]
    )


def test_a_pipeline_of_beam_takes_rows_over(tiny_model, tmp_path):
    shards = [records(50), records(50, 50)]
    night(tiny_model, tmp_path, "first", shards)
    mark_vectors(Version(str(tmp_path / "out"), "first"))
    tonight, encoded = of_tonight(shards)
    for shard, rows in enumerate(tonight):
        write_jsonl(tmp_path / "in" / f"shard-{shard}.jsonl", rows)
    job = tiny_job(tiny_model, tmp_path / "in", tmp_path / "out", version="second", **SETTINGS)
    model, output, corpus = (
        kind(**{name: getattr(job, name) for name in kind.model_fields})
        for kind in (ModelConfig, OutputConfig, CorpusConfig)
    )
    (result,) = results(lambda p: p | EmbedCorpus(model, output, corpus))
    old, new = by_id(Dataset(tmp_path / "out" / "first")), by_id(Dataset.latest(job.output))
    vectors = {text: vector for text, vector in old.values()}
    assert {name for name, (text, vector) in new.items() if vectors.get(text) != vector} == encoded
    assert (result.rows_reused, result.rows_encoded, result.rows_removed) == (97, 3, 1)
