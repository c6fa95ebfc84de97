"""EmbedCorpus over rows, blocks and files: complete versions, resumed, and refused in time."""

import json
import random
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from beam_running import FailingClient, results
from markupsafe import Markup
from running import Dataset, records, tiny_job, write_corpus

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig, RecordConfig
from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.dataset.committed import committed
from embedkit.dataset.growing import standing_listing
from embedkit.dataset.publication import is_published
from embedkit.dataset.version import Version, latest_name
from embedkit.encoders.kinds import read_model
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, EncoderError, RejectsExceededError
from embedkit.flow.complete import complete_version
from embedkit.flow.prepare import begin_version
from embedkit.records import DocumentBlock
from embedkit.reports.account import RunAccount
from embedkit.transforms import embed as transforms_embed
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.transforms.read import ReadCorpus

Rows = Iterable[dict[str, Any]]
_SMALL = RecordConfig(block_rows=16)


@pytest.fixture
def model(tiny_model: str) -> ModelConfig:
    return ModelConfig(
        model=tiny_model,
        pooling="mean",
        normalize=True,
        backend="torch",
        precision="float32",
        encoder_threads=1,
    )


@pytest.fixture
def output(tmp_path: Path) -> OutputConfig:
    return OutputConfig(output=str(tmp_path / "out"), version="v1")


class Author(NamedTuple):
    name: str
    born: int


def test_values_of_other_libraries_are_what_they_stand_for(model, output):
    """Missing ones are null, strings strings, and what has fields is a mapping, also inside."""
    author = {"name": "x", "born": 1}
    rows = [
        {"id": "a", "text": "rain", "stars": 1, "by": author},
        {"id": "b", "text": Markup("a fox"), "stars": pd.NA, "by": Author("x", 1)},
        {"id": Markup("c"), "text": "the sea", "stars": 3, "by": beam.Row(name="x", born=1)},
        {"id": "d", "text": "hills", "stars": pa.scalar(4), "by": {"all": [Author("x", pd.NaT)]}},
        {"id": "e", "text": pd.NA, "stars": 5, "by": None},
        {"id": "f", "text": "trees", "stars": None, "by": pd.NaT},
        {"id": "g", "text": np.nan, "stars": 5, "by": None},
        {"id": np.nan, "text": "a row without an id", "stars": 6, "by": None},
    ]
    output = output.model_copy(update={"max_reject_share": 1.0})
    assert embed(rows, EmbedCorpus(model, output, _SMALL, shards=2)).rejects == 2
    dataset = Dataset.latest(output.output)
    table = dataset.table
    assert table.schema.field("stars").type == pa.int64()
    told = dict(zip(table["id"].to_pylist(), table["stars"].to_pylist(), strict=True))
    (derived,) = told.keys() - set("abcdf")
    assert "nan" not in derived
    assert told == {"a": 1, "b": None, "c": 3, "d": 4, "f": None, derived: 6}
    one = '{"name":"x","born":1}'
    by = dict(zip(table["id"].to_pylist(), table["by"].to_pylist(), strict=True))
    inside = '{"all":[{"name":"x","born":null}]}'
    assert by == {"a": one, "b": one, "c": one, "d": inside, "f": None, derived: None}
    rejects = {(one["doc_id"], one["reason"]) for one in dataset.rejects}
    assert rejects == {("e", "missing_column"), ("g", "missing_column")}


@pytest.mark.parametrize("check", ["runtime_type_check", "performance_runtime_type_check"])
def test_beam_may_check_every_type_as_it_runs(model, output, check):
    transform = EmbedCorpus(model, output, _SMALL, shards=2)
    assert embed(records(20), transform, **{check: True}).rows == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shards": 0}, "shards is 0; give a whole number"),
        ({"shards": "3"}, "shards is '3'; give a whole number"),
        ({"shards": True}, "shards is True; give a whole number"),
        ({"output": "out"}, "output: expected OutputConfig, got str"),
        ({"model": "/models/x"}, "model: expected ModelConfig, got str"),
    ],
)
def test_settings_of_another_kind_are_refused(model, output, changes, said):
    with pytest.raises(ConfigError, match=said):
        EmbedCorpus(**{"model": model, "output": output, **changes})


def embed(rows: Rows, transform: EmbedCorpus, **options: Any) -> RunAccount:
    (result,) = results(lambda p: p | "Rows" >> beam.Create(list(rows)) | transform, **options)
    return result


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content, apart from what probing leaves for a moment."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and ".tmp" not in path.parts
    }


def test_rows_become_a_complete_version(model, output, tmp_path, monkeypatch):
    rows = records(100)
    listed = []
    leave = transforms_embed.leave

    def look_first(version):
        listed.append(standing_listing(version))
        leave(version)

    monkeypatch.setattr(transforms_embed, "leave", look_first)
    result = embed(rows, EmbedCorpus(model, output, _SMALL, shards=4))
    # Its workers have listed what is committed, from the first part on.
    assert listed[0].rows > 0
    assert not {"heartbeat.json", "growing.json"} & {
        path.name for path in Path(output.output).glob("v1/_meta/*")
    }
    assert (result.version, result.documents, result.rows, result.rejects) == ("v1", 100, 100, 0)
    assert not result.already_complete
    dataset = Dataset.latest(output.output)
    dataset.check_accounts(100)
    assert len(dataset.parts) >= 100 // 16
    # The same documents from files, without any engine.
    corpus = write_corpus(tmp_path / "in", shards=2, rows=50)
    job = tiny_job(model.model, corpus, tmp_path / "plain", id_column="id", store_text=False)
    job = job.model_copy(update={"metadata_columns": ("stars", "title")})
    run_job(job)
    plain = Dataset.latest(tmp_path / "plain").table
    table = dataset.table
    same = ["id", "doc_id", "stars", "title", "n_tokens", "truncated", "text_hash"]
    assert table.schema.equals(plain.schema)
    assert table.select(same).equals(plain.select(same))
    vectors, expected = (np.stack(one["embedding"].to_numpy()) for one in (table, plain))
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_files_become_the_same_bytes_as_without_an_engine(model, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=3, rows=40)
    job = tiny_job(model.model, corpus, tmp_path / "plain", id_column="id", chunk="sentences")
    run_job(job)
    settings = {name: getattr(job, name) for name in CorpusConfig.model_fields}
    transform = EmbedCorpus(
        model, OutputConfig(output=str(tmp_path / "beam")), CorpusConfig(**settings)
    )
    (result,) = results(lambda p: p | transform)
    plain, beamed = Dataset.latest(tmp_path / "plain"), Dataset.latest(tmp_path / "beam")
    assert result.version == beamed.folder.name == plain.folder.name
    assert beamed.part_hashes == plain.part_hashes
    assert len(beamed.parts) > 3


class Review(NamedTuple):
    id: str
    text: str
    stars: int


@pytest.mark.parametrize("make", [lambda r: beam.Row(**r), lambda r: Review(**r), dict])
def test_rows_may_be_mappings_named_tuples_and_beam_rows(model, output, make):
    rows = [{name: row[name] for name in Review._fields} for row in records(7)]
    (result,) = results(
        lambda p: (
            p | beam.Create(rows) | "Make" >> beam.Map(make) | EmbedCorpus(model, output, shards=2)
        )
    )
    assert result.rows == 7
    assert Dataset.latest(output.output).table["stars"].to_pylist() == [
        row["stars"] for row in rows
    ]


def test_the_order_and_the_number_of_bundles_do_not_matter(model, tmp_path):
    rows = records(60)
    hashes = []
    for number in range(2):
        random.Random(number).shuffle(rows)
        output = OutputConfig(output=str(tmp_path / str(number)), version="v1")
        options = {"direct_num_workers": 2, "direct_running_mode": "multi_threading"}
        embed(rows, EmbedCorpus(model, output, _SMALL, shards=3), **(options if number else {}))
        hashes.append(Dataset.latest(output.output).part_hashes)
    assert hashes[0] == hashes[1]


def test_windows_of_the_users_do_not_part_a_version(model, output):
    rows = records(30)
    (result,) = results(
        lambda p: (
            p
            | beam.Create(rows)
            | beam.Map(lambda row: beam.window.TimestampedValue(row, row["stars"] * 100))
            | beam.WindowInto(beam.window.FixedWindows(60))
            | EmbedCorpus(model, output, shards=2)
        )
    )
    assert result.rows == 30
    Dataset.latest(output.output).check_accounts(30)


def test_bundles_that_run_twice_double_nothing(model, output, tmp_path):
    once = output.model_copy(update={"output": str(tmp_path / "once")})
    rows = [*records(150), {"id": "empty", "text": " "}]
    embed(rows, EmbedCorpus(model, once, _SMALL, shards=3))
    found = results(
        lambda p: p | beam.Create(rows) | EmbedCorpus(model, output, _SMALL, shards=3),
        direct_runner_bundle_repeat=2,
    )
    # Outputs of a bundle that runs again come again; they must agree.
    assert {(one.rows, one.rejects, one.tokens_encoded) for one in found} == {
        (150, 1, found[0].tokens)
    }
    twice = Dataset.latest(output.output)
    twice.check_accounts(151)
    assert twice.part_hashes == Dataset.latest(once.output).part_hashes


def test_a_second_run_changes_nothing(model, output):
    transform = EmbedCorpus(model, output, _SMALL, shards=3)
    first = embed(records(40), transform)
    before = files(Path(output.output))
    second = embed(records(40), transform)
    assert files(Path(output.output)) == before
    assert second.already_complete
    assert (second.rows, second.rows_resumed, second.tokens_encoded) == (40, 40, 0)
    assert first.tokens == second.tokens


def test_a_run_that_failed_is_resumed_where_it_stopped(model, output, monkeypatch):
    # Four components, as the client has.
    model = model.model_copy(update={"dimensions": 4})
    rows = records(60)
    rows[30]["text"] = "one " * 80
    transform = EmbedCorpus(model, output, _SMALL, FailingClient, shards=8)
    monkeypatch.setattr(FailingClient, "fails_at", read_model(model).tokenizer.max_tokens)
    with pytest.raises(EncoderError, match=r"^an encoder was lost: it was pulled$"):
        embed(rows, transform)
    version = Version(output.output, "v1")
    assert not version.is_complete()
    before = sum(record.rows for record in committed(version).values())
    assert 0 < before < 60
    monkeypatch.setattr(FailingClient, "fails_at", None)
    monkeypatch.setattr(FailingClient, "encoded", 0)
    result = embed(rows, transform)
    assert FailingClient.encoded == 60 - before
    assert (result.rows, result.rows_resumed) == (60, before)
    assert 0 < result.tokens_encoded < result.tokens
    Dataset.latest(output.output).check_accounts(60)


@pytest.mark.parametrize("count", [0, 3])
def test_no_rows_and_only_rejects_are_versions_that_are_not_published(model, output, count):
    rows = [{"id": f"{n}", "text": ""} for n in range(count)]
    output = output.model_copy(update={"max_reject_share": 0.99})
    with pytest.raises(RejectsExceededError, match="so there are no rows; version v1 is complete"):
        results(
            lambda p: (
                p
                | beam.Create(rows)
                | beam.Map(dict).with_output_types(dict[str, str])
                | EmbedCorpus(model, output, shards=3)
            )
        )
    dataset = Dataset.only(output.output)
    assert dataset.parts == []
    assert [dataset.manifest[name] for name in ("documents", "rows", "rejects", "splits")] == [
        count, 0, count, 3,
    ]  # fmt: skip
    assert not (Path(output.output) / "LATEST").exists()


def test_no_blocks_at_all_are_a_version_that_is_not_published(model, output):
    with pytest.raises(RejectsExceededError, match="the inputs hold no document, so there are no"):
        results(
            lambda p: (
                p
                | beam.Create([])
                | beam.Map(_same).with_output_types(DocumentBlock)
                | EmbedCorpus(model, output)
            )
        )
    assert Dataset.only(output.output).manifest["splits"] == 0


def _same(element: Any) -> Any:
    return element


def test_too_many_rejects_fail_the_pipeline_and_leave_the_version_complete(model, output):
    rows = [*records(5), {"id": "x", "text": ""}, {"id": "y", "text": None}]
    transform = EmbedCorpus(model, output, shards=2)
    said = "2 of 7 documents were rejected, more than --max-reject-share 0.01 allows"
    with pytest.raises(RejectsExceededError, match=f"^{said}"):
        embed(rows, transform)
    dataset = Dataset.only(output.output)
    dataset.check_accounts(7)
    version = Version(output.output, "v1")
    assert not is_published(version)
    assert latest_name(version.store) == "v1"
    # The same pipeline says the same, and publishes what it finds complete if it is told to.
    with pytest.raises(RejectsExceededError, match=f"^{said}"):
        embed(rows, transform)
    anyway = output.model_copy(update={"publish_anyway": True})
    assert embed(rows, EmbedCorpus(model, anyway, shards=2)).published
    assert Dataset.latest(output.output).folder == dataset.folder
    assert sorted(one["reason"] for one in dataset.rejects) == ["empty_text", "missing_column"]


def test_what_nobody_measured_is_not_told_as_zero(model, output):
    result = embed(records(5), EmbedCorpus(model, output, shards=1))
    assert result.encode_seconds is result.encoder_busy_share is result.tokens_per_second is None
    assert json.loads(result.to_json())["tokens_per_second"] is None
    folder = Path(output.output) / "v1" / "report"
    run = json.loads((folder / "report.json").read_text())["run"]
    assert [run[name] for name in ("encode_seconds", "encoder_busy_share")] == [None, None]
    assert run["tokens_encoded"] == result.tokens
    assert "busy" not in json.dumps(run["findings"])
    page = (folder / "report.html").read_text()
    assert "<dt>Speed</dt><dd>not measured</dd>" in page
    assert "from a pipeline" in page


# --- blocks ---


def _shouted(block: DocumentBlock) -> DocumentBlock:
    """A step of a user's own: a column more, and the short documents away."""
    rows = block.rows
    stars = rows.column("stars").to_pylist()
    rows = rows.append_column("loud", pa.array([f"{star}!" for star in stars], pa.string()))
    return block.with_rows(rows)


def test_a_users_own_step_may_stand_between_reading_and_embedding(model, output, tmp_path):
    corpus = CorpusConfig(
        inputs=(str(write_corpus(tmp_path / "in", shards=2, rows=30)),),
        id_column="id",
        metadata_columns=("stars",),
        block_rows=8,
    )
    plan = plan_corpus(corpus)

    def build(p: beam.Pipeline, plan_given: bool) -> beam.PCollection:
        return (
            p
            | ReadCorpus(corpus, plan)
            | "Loud" >> beam.Map(_shouted).with_output_types(DocumentBlock)
            | "Shuffled" >> beam.Reshuffle()
            | EmbedCorpus(model, output, plan=plan if plan_given else None)
        )

    (result,) = results(lambda p: build(p, False))
    dataset = Dataset.latest(output.output)
    dataset.check_accounts(60)
    assert dataset.table["loud"].to_pylist() == [f"{row['stars']}!" for row in records(60)]
    assert result.rows == 60
    (again,) = results(lambda p: build(p, False))
    assert again.already_complete
    named = output.model_copy(update={"version": "planned", "reuse": "off"})
    output = named
    (planned,) = results(lambda p: build(p, True))
    assert planned.version == "planned"
    report = json.loads((Path(output.output) / "planned" / "report" / "report.json").read_text())
    assert report["inputs"] == {"files": 2, "bytes": plan.total_bytes}
    assert Dataset.latest(output.output).part_hashes == dataset.part_hashes


def test_blocks_of_a_step_that_does_not_name_its_type_are_refused(model, output, tmp_path):
    corpus = CorpusConfig(inputs=(str(write_corpus(tmp_path / "in", shards=1, rows=3)),))
    with pytest.raises(ConfigError, match=r"with_output_types\(DocumentBlock\)$"):
        results(
            lambda p: (
                p
                | ReadCorpus(corpus)
                | beam.Map(_same).with_output_types(Any)
                | EmbedCorpus(model, output)
            )
        )


@pytest.mark.parametrize("unit", ["rows", "blocks"])
def test_chunks_are_made_of_rows_and_of_blocks(model, output, tmp_path, unit):
    rows = records(20)
    chunked = RecordConfig(chunk="tokens", chunk_tokens=8)
    transform = EmbedCorpus(model, output, chunked, shards=2)
    if unit == "rows":
        result = embed(rows, transform)
    else:
        corpus = CorpusConfig(
            inputs=(str(write_corpus(tmp_path / "in", shards=1, rows=20)),), id_column="id"
        )
        (result,) = results(lambda p: p | ReadCorpus(corpus) | transform)
    assert result.documents == 20
    assert result.rows > 20
    table = Dataset.latest(output.output).table
    assert set(table["doc_id"].to_pylist()) == {row["id"] for row in rows}
    assert max(table["n_tokens"].to_pylist()) <= 8 + 2


# --- refused ---


def refused(build: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as found:
        pipeline = beam.Pipeline(runner="apache_beam.runners.direct.DirectRunner")
        build(pipeline)
    assert "\n" not in str(found.value)


def test_a_version_without_input_files_needs_a_name(model, tmp_path):
    nameless = OutputConfig(output=str(tmp_path / "out"))
    refused(lambda p: EmbedCorpus(model, nameless), "name it, as OutputConfig")
    assert not (tmp_path / "out").exists()


def test_inputs_and_a_pcollection_contradict_each_other(model, output):
    corpus = CorpusConfig(inputs=("a.jsonl",))
    refused(
        lambda p: p | beam.Create([{}]) | EmbedCorpus(model, output, corpus),
        r"names inputs \(a\.jsonl\), but the documents come from a PCollection",
    )
    refused(lambda p: p | EmbedCorpus(model, output), "give one, or apply it to a PCollection")


def test_rows_that_cannot_have_the_text_are_refused_before_anything_runs(model, output):
    def rows(p: beam.Pipeline) -> beam.PCollection:
        return p | beam.Create([1]) | beam.Map(lambda n: beam.Row(id=n, body="x"))

    refused(
        lambda p: rows(p) | EmbedCorpus(model, output),
        "have no column text, but id, body; name another text column",
    )
    embedded = rows(beam.Pipeline()) | EmbedCorpus(model, output, RecordConfig(text_column="body"))
    assert isinstance(embedded, beam.PCollection)


def test_an_unbounded_pcollection_is_refused(model, output):
    refused(lambda p: p | test_stream.TestStream() | EmbedCorpus(model, output), "is unbounded")


def test_other_settings_and_other_shards_are_another_version(model, output):
    embed(records(5), EmbedCorpus(model, output, shards=2))
    for changed in (
        EmbedCorpus(model, output, shards=3),
        EmbedCorpus(model, output.model_copy(update={"store_text": True}), shards=2),
        EmbedCorpus(model.model_copy(update={"prompt": "query: "}), output, shards=2),
    ):
        refused(lambda p, changed=changed: p | beam.Create([{}]) | changed, "give this job another")


@pytest.mark.parametrize("change", ["dropped", "renamed", "added", "one block more"])
@pytest.mark.few(2)
def test_other_rows_under_a_versions_name_are_noticed(model, output, change):
    rows = records(20)
    by_five = EmbedCorpus(model, output, RecordConfig(block_rows=5), shards=1)
    embed(rows, by_five)
    before = files(Path(output.output))
    if change == "dropped":
        rows = rows[:-1]
    elif change == "added":
        rows.append(rows[0] | {"id": "a first one"})
    elif change == "renamed":
        rows[4] = rows[4] | {"id": "another"}
    else:
        rows += records(1, start=20)
    with pytest.raises(ConfigError, match="was made of other records than these"):
        embed(rows, by_five)
    assert files(Path(output.output)) == before


@pytest.mark.parametrize("element", ["a text", 5, ("a", "b")])
def test_elements_that_are_no_rows_are_named(model, output, element):
    kind = type(element).__name__
    with pytest.raises(ConfigError, match=f"an element is a {kind}, expected a mapping or a Row"):
        results(lambda p: p | beam.Create([element]) | EmbedCorpus(model, output))


# --- completion ---


def test_a_version_that_is_completed_twice_at_once_is_completed_once(model, output):
    transform = EmbedCorpus(model, output, _SMALL, shards=2)
    embed(records(40), transform)
    version = Version(output.output, "v1")
    version.store.remove(version.success_key)
    version.store.remove(version.manifest_key)
    version.store.remove("LATEST")
    spec = read_model(model)
    plan = begin_version(model, spec, _plan_of(version), _SMALL, output)
    barrier = threading.Barrier(4)
    found: list[RunAccount] = []

    def complete() -> None:
        barrier.wait()
        splits = [split.split_id for split in plan.plan.splits]
        found.append(complete_version(plan, RunAccount(), splits))

    threads = [threading.Thread(target=complete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(one.rows, one.tokens_encoded) for one in found} == {(40, found[0].tokens)}
    assert len(found) == 4
    Dataset.latest(output.output).check_accounts(40)


def _plan_of(version: Version) -> Plan:
    stored = json.loads(version.store.read(version.plan_key))
    return Plan.from_json(json.dumps(stored["corpus"]))
