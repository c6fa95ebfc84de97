"""A job made ready: what names its version, what it says of its vectors, what travels."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from running import Dataset, records, tiny_job, write_corpus, write_jsonl
from tiny_models import make_tokenizer, save_transformer

from embedkit.config import CorpusConfig, JobConfig, OutputConfig
from embedkit.corpus import plan as planning
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.recipe import recipe_of
from embedkit.dataset.version import Version
from embedkit.encoders.kinds import read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, InputError
from embedkit.flow.prepare import Job, part_options, prepare, vector_ingredients


@pytest.fixture
def config(tiny_model, tmp_path) -> JobConfig:
    corpus = write_corpus(tmp_path / "in", shards=2, rows=20)
    return tiny_job(tiny_model, corpus, tmp_path / "out", id_column="id", max_tokens=24)


def prepared(config: JobConfig, **changes: object) -> Job:
    return prepare(config.model_copy(update=changes))


VECTORS = {
    "max_tokens": 20,
    "pooling": "cls",
    "normalize": False,
    "dimensions": 8,
    "prompt": "passage: ",
    "precision": "bfloat16",
    "chunk": "sentences",
}
ROWS = {
    "id_column": None,
    "metadata_columns": ("stars",),
    "text_column": "title",
    "text_template": "{title}. {text}",
    "block_rows": 8,
    "split_bytes": 999,
    "max_record_bytes": 5000,
    "vector_dtype": "float16",
    "store_text": True,
}
NEITHER = {
    "backend": "openvino",
    "batch_tokens": 64,
    "engine": "local",
    "workers": 3,
    "calls_in_flight": 4,
    "call_tokens": 99,
    "encoder_timeout": 5.0,
    "max_reject_share": 0.5,
    "publish_anyway": True,
    "allow_damaged_files": True,
    "near_duplicates": "0.9",
    "fail_on": ("truncated_share>0.2",),
}


@pytest.mark.parametrize(("name", "value"), VECTORS.items())
def test_what_changes_vectors_is_another_fingerprint(config, name, value):
    first, second = prepare(config), prepared(config, **{name: value})
    assert first.fingerprint != second.fingerprint
    assert first.version.name != second.version.name


@pytest.mark.parametrize(("name", "value"), ROWS.items())
def test_what_changes_rows_is_another_version_of_the_same_vectors(config, name, value):
    first, second = prepare(config), prepared(config, **{name: value})
    assert first.fingerprint == second.fingerprint
    assert first.version.name != second.version.name


@pytest.mark.parametrize(("name", "value"), NEITHER.items())
def test_what_changes_neither_is_the_same_version(config, name, value):
    assert prepare(config).version == prepared(config, **{name: value}).version


def test_other_inputs_are_another_version(config, tmp_path):
    first = prepare(config)
    write_jsonl(tmp_path / "in" / "shard-2.jsonl", records(5, start=100))
    second = prepare(config)
    assert first.fingerprint == second.fingerprint
    assert first.version.name != second.version.name
    write_jsonl(tmp_path / "in" / "shard-2.jsonl", records(6, start=100))
    assert prepare(config).version.name != second.version.name


def test_another_place_of_the_same_weights_is_the_same_fingerprint(config, tmp_path):
    moved = shutil.copytree(config.model, tmp_path / "moved")
    other = save_transformer(tmp_path / "other", "bert", seed=1)
    first = prepare(config)
    assert prepared(config, model=str(moved)).version == first.version
    assert prepared(config, model=other).fingerprint != first.fingerprint


def test_a_version_keeps_the_plan_it_was_begun_with(config):
    first = prepare(config)
    plan = Path(first.version.root) / first.version.plan_key
    before = plan.read_bytes()
    again = prepare(config)
    assert again.plan == first.plan
    assert plan.read_bytes() == before
    assert json.loads(before)["fingerprint"] == first.fingerprint


def test_a_version_goes_on_with_its_plan_where_another_release_would_split_otherwise(
    config, monkeypatch
):
    first = prepare(config)
    monkeypatch.setattr(planning, "borders", lambda stored, *_: [len(stored)])
    assert len(planning.plan_inputs(config).splits) < len(first.plan.splits)
    assert prepare(config).plan == first.plan


def test_a_setting_of_a_later_release_at_its_default_renames_no_version(config):
    """What the first release put into a job's digest, and nothing since."""
    job = prepare(config.model_copy(update={"id_column": None, "chunk_overlap": 0}))
    plan = json.loads((Path(job.version.root) / job.version.plan_key).read_bytes())
    assert plan["job"] == {
        "text_column": "text",
        "text_template": None,
        "id_column": None,
        "metadata_columns": [],
        "max_record_bytes": 16 << 20,
        "block_rows": config.block_rows,
        "block_bytes": 8 << 20,
        "format": "auto",
        "compression": "auto",
        "text_unit": "line",
        "split_bytes": config.split_bytes,
        "vector_dtype": "float32",
        "store_text": config.store_text,
    }


def test_a_new_setting_at_its_neutral_value_renames_no_version(config):
    class LaterCorpus(CorpusConfig):
        sort_rows: bool = False
        keep_markup: str | None = None

    class LaterJob(LaterCorpus, JobConfig):
        pass

    first = prepare(config)
    later = LaterJob(**config.model_dump())
    assert prepare(later).version == first.version
    assert prepared(later, sort_rows=True).version != first.version
    assert prepared(later, keep_markup="b").version != first.version


def on(model: ModelSpec, **placement: object) -> ModelSpec:
    return replace(model, placement=replace(model.placement, **placement))


def test_the_device_that_happened_to_be_there_names_no_version(config):
    model = read_model(config)
    there = on(model, device="cuda", backend="torch", batch_tokens=99)
    first, second = prepare(config, model), prepare(config, there)
    assert (first.version, first.fingerprint) == (second.version, second.fingerprint)
    assert first.description["recipe"] == second.description["recipe"]
    assert second.description["numerics"] == {
        "backend": "torch",
        "batch_tokens": 99,
        "device": "cuda",
        "precision": "float32",
    }
    half = prepare(config, on(model, precision="bfloat16"))
    assert half.version != first.version
    assert half.description["recipe"] == first.description["recipe"]


def test_a_job_travels_to_workers(config):
    job = prepared(config, chunk="tokens", chunk_tokens=12)
    there = pickle.loads(pickle.dumps(job))
    assert there == job
    assert there.make_chunker is not None
    spans = there.make_chunker().spans([records(30)[29]["text"]])
    assert len(spans[0]) > 1
    assert prepare(config).make_chunker is None


def test_the_description_says_how_the_vectors_were_made(config):
    job = prepared(config, prompt="passage: ", dimensions=8, vector_dtype="float16")
    said = job.description
    expected = {
        "model": config.model,
        "fingerprint": job.fingerprint,
        "dimension": 8,
        "pooling": "mean",
        "normalized": True,
        "prompt": "passage: ",
        "max_tokens": 24,
        "metric": "cosine",
        "backend": "torch",
        "precision": "float32",
        "device": "cpu",
        "vector_dtype": "float16",
        "stores_text": False,
        "recipe": recipe_of(vector_ingredients(job.model, config)),
        "ingredients": vector_ingredients(job.model, config.model_copy()),
    }
    assert {name: said[name] for name in expected} == expected
    assert set(said["libraries"]) == {"embedkit", "pyarrow", "tokenizers", "transformers", "torch"}


def test_part_options_carry_the_description_as_text():
    output = OutputConfig(output="out", vector_dtype="float16", store_text=True)
    options = part_options(output, {"dimension": 8, "model": "m", "normalized": True})
    assert (options.dimension, options.vector_dtype, options.store_text) == (8, "float16", True)
    assert options.file_metadata == {
        "embedkit.dimension": "8",
        "embedkit.model": "m",
        "embedkit.normalized": "true",
    }


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, False),
        ({"store_text": True}, True),
        ({"excerpts": True}, True),
        ({"store_text": True, "excerpts": False}, False),
    ],
)
def test_texts_are_shown_where_they_are_stored_unless_told_otherwise(settings, shown):
    output = OutputConfig(output="out", **settings)
    assert part_options(output, {"dimension": 8}).excerpts is shown


def test_nothing_is_written_for_a_job_that_cannot_run(config, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(InputError, match=r"nothing\.jsonl: no such file"):
        prepared(config, inputs=(str(tmp_path / "nothing.jsonl"),))
    with pytest.raises(ConfigError, match="no such directory"):
        prepared(config, model=str(tmp_path / "no-model"))
    assert not output.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chunk": "tokens", "chunk_tokens": 512}, "chunk_tokens 512: the model sees 22 tokens"),
        ({"chunk": "sentences", "chunk_tokens": 23}, "chunk_tokens 23"),
        ({"chunk": "paragraphs", "chunk_overlap": 22}, "chunk_overlap 22: a chunk has 22 tokens"),
        ({"chunk": "tokens", "chunk_tokens": 20, "prompt": "one two "}, "chunk_tokens 20"),
        ({"max_tokens": 65}, "max_tokens is 65, but"),
        ({"max_tokens": 2}, "leave no room for text"),
        ({"prompt": "word " * 40}, "of the prompt leave no room for text"),
        ({"prompt_name": "unheard"}, "no prompt named 'unheard'"),
        ({"pooling": "median"}, "pooling 'median' is unknown"),
        ({"dimensions": 33}, "dimensions is 33, but"),
        ({"text_template": "{text"}, "text_template"),
        ({"metadata_columns": ("nothing",)}, "nothing"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_written(
    config, tmp_path, changes, said
):
    with pytest.raises((ConfigError, InputError), match=said) as raised:
        prepared(config, **changes)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(config, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match=str(file)):
        prepared(config, output=str(file))
    assert file.read_text() == "x"


def test_no_column_of_a_job_is_lost_on_the_way_to_its_parts(config):
    """The schema of the rows is settled with the plan, before a record is read."""
    job = prepared(config, metadata_columns=("stars", "title:string"))
    assert job.plan.schema.names[-2:] == ["stars", "title"]


def test_code_that_was_ignored_is_named_in_manifest_card_and_report(config, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(config.model, model)
    (settings,) = [
        one for one in (model / "config.json", model / "0_Transformer/config.json") if one.exists()
    ]
    stored = json.loads(settings.read_text())
    settings.write_text(json.dumps(stored | {"auto_map": {"AutoModel": "modeling.Mine"}}))
    changes = {"model": str(model), "ignore_auto_map": True, "engine": "plain"}
    run_job(config.model_copy(update=changes))
    dataset = Dataset.only(tmp_path / "out")
    said = "AutoModel=modeling.Mine"
    version = Version(str(tmp_path / "out"), dataset.folder.name)
    assert read_manifest(version).description["ignored_code"] == said
    card = (dataset.folder / "README.md").read_text()
    assert "ignored code" in card and "modeling.Mine" in card
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert any(
        "--ignore-auto-map" in one["text"] and said in one["text"] for one in report["findings"]
    )
    page = (dataset.folder / "report" / "report.html").read_text()
    assert "modeling.Mine" in page


def test_a_tokenizer_that_does_not_belong_is_named_in_manifest_card_and_report(config, tmp_path):
    other = tmp_path / "other"
    make_tokenizer("unigram").save_pretrained(other)
    with pytest.raises(ConfigError, match=f"tokenizer {other} does not belong to {config.model}"):
        prepared(config, tokenizer=str(other))
    assert not (tmp_path / "out").exists()
    changes = {"tokenizer": str(other), "allow_tokenizer_mismatch": True, "engine": "plain"}
    run_job(config.model_copy(update=changes))
    dataset = Dataset.only(tmp_path / "out")
    version = Version(str(tmp_path / "out"), dataset.folder.name)
    described = read_manifest(version).description
    assert described["tokenizer"] == str(other)
    assert described["ingredients"]["tokenizer_mismatch"] is True
    said = "its 179 tokens"
    assert said in described["tokenizer_mismatch"]
    card = (dataset.folder / "README.md").read_text()
    assert "tokenizer mismatch" in card and said in card
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    (finding,) = [one for one in report["findings"] if "--allow-tokenizer-mismatch" in one["text"]]
    assert said in finding["text"] and finding["level"] == "warning"
    assert said in (dataset.folder / "report" / "report.html").read_text()


def test_the_models_own_tokenizer_under_another_name_is_the_same_version(config, tmp_path):
    moved = shutil.copytree(config.model, tmp_path / "moved")
    changes = {"tokenizer": str(moved), "allow_tokenizer_mismatch": True}
    assert prepared(config, **changes).version == prepare(config).version
