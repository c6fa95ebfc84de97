"""Pipelines written in Beam YAML, run here: rows in, a complete version out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.yaml.yaml_provider import InlineProvider, load_providers
from running import Dataset, records, write_corpus

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig, RecordConfig
from embedkit.engines.beam_yaml import PROVIDER, run_yaml
from embedkit.errors import ConfigError
from embedkit.transforms import beam_yaml as transforms

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.fixture
def settings(tiny_model: str, tmp_path: Path) -> dict[str, Any]:
    model = {"model": tiny_model, "pooling": "mean", "backend": "torch", "precision": "float32"}
    return model | {"output": str(tmp_path / "out"), "version": "v1"}


def run(folder: Path, *steps: dict[str, Any], arguments: tuple[str, ...] = ()) -> None:
    """Runs a chain of steps, each of them a type and its settings."""
    pipeline = {
        "providers": [{"include": str(PROVIDER)}],
        "pipeline": {
            "type": "chain",
            "transforms": [
                {"type": kind, "config": config} for one in steps for kind, config in one.items()
            ],
        },
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(pipeline))
    run_yaml(str(file), list(arguments))


def test_rows_become_a_complete_version_and_its_result_is_a_row(settings, tmp_path):
    rows = [{name: row[name] for name in ("id", "text", "stars")} for row in records(12)]
    run(
        tmp_path,
        {"Create": {"elements": rows}},
        {"EmbedCorpus": settings | {"shards": 3, "block_rows": 4}},
        {"MapToFields": {"language": "generic", "fields": {"made": "version", "rows": "rows"}}},
        # Fails the pipeline where it is otherwise.
        {"AssertEqual": {"elements": [{"made": "v1", "rows": 12}]}},
    )
    dataset = Dataset.latest(settings["output"])
    dataset.check_accounts(12)
    assert dataset.table["stars"].to_pylist() == [row["stars"] for row in rows]
    assert dataset.manifest["splits"] == 3


def test_a_wrong_expectation_would_fail(settings, tmp_path):
    with pytest.raises(Exception, match="v1"):
        run(
            tmp_path,
            {"Create": {"elements": [{"id": "a", "text": "one"}]}},
            {"EmbedCorpus": settings},
            {"MapToFields": {"language": "generic", "fields": {"made": "version"}}},
            {"AssertEqual": {"elements": [{"made": "v2"}]}},
        )


def test_the_example_embeds_what_its_filter_lets_through(minilm, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=2, rows=20)
    variables = {
        "inputs": f"{corpus}/*.jsonl",
        "model": minilm,
        "output": str(tmp_path / "out"),
        "version": "2026-01-31",
    }
    flags = [f"--{name}={value}" for name, value in variables.items()]
    run_yaml(str(PIPELINES / "long_documents.yaml"), flags)
    dataset = Dataset.latest(tmp_path / "out")
    assert dataset.folder.name == "2026-01-31"
    assert dataset.table.num_rows == sum(len(row["text"].split()) > 5 for row in records(40)) > 20


def test_files_are_read_with_their_columns_and_types(settings, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=1, rows=6)
    expected = [{"id": row["id"], "sum": row["stars"] + 1} for row in records(6)]
    columns = {"id_column": "id", "metadata_columns": ["stars", "title"]}
    run(
        tmp_path,
        {"ReadCorpus": {"inputs": [str(corpus)], **columns}},
        {"MapToFields": {"language": "python", "fields": {"id": "id", "sum": "stars + 1"}}},
        {"AssertEqual": {"elements": expected}},
    )


def test_files_become_a_version_with_every_record_accounted_for(settings, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=2, rows=5)
    with (corpus / "shard-0.jsonl").open("a") as file:
        file.write('{"id": "empty", "text": ""}\n')
    of_files = {"inputs": [str(corpus)], "id_column": "id", "max_reject_share": 0.5}
    run(tmp_path, {"EmbedFiles": settings | of_files})
    dataset = Dataset.latest(settings["output"])
    dataset.check_accounts(11)
    assert [one["reason"] for one in dataset.rejects] == ["empty_text"]


ROWS = {"Create": {"elements": [{"id": "a", "text": "one"}]}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": None}, "name it, as OutputConfig"),
        ({"model": "/nowhere"}, "model /nowhere: no such directory"),
        ({"chunk": "pages"}, "chunk: Input should be 'none'"),
        ({"text_column": "body"}, "the rows have no column body, but id, text"),
        ({"chunks": "tokens"}, "chunks: Extra inputs are not permitted"),
        ({"output": None}, "output: missing; give it"),
    ],
)
def test_a_wrong_setting_is_an_error_of_one_line_with_its_place(settings, tmp_path, change, reason):
    with pytest.raises(ConfigError) as found:
        run(tmp_path, ROWS, {"EmbedCorpus": settings | change})
    message = str(found.value)
    assert message.startswith(f"{tmp_path}/pipeline.yaml: ")
    assert reason in message
    assert "EmbedCorpus" in message
    assert "\n" not in message


def test_an_error_of_a_step_is_that_of_the_step(settings, tmp_path):
    run(tmp_path, ROWS, {"EmbedCorpus": settings})
    other = {"Create": {"elements": [{"id": "b", "text": "two"}]}}
    with pytest.raises(ConfigError, match="was made of other records than these") as found:
        run(tmp_path, other, {"EmbedCorpus": settings})
    assert "while running" not in str(found.value)


def test_a_missing_pipeline_is_named():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such pipeline"):
        run_yaml("nowhere.yaml", [])


def test_the_provider_tells_every_setting_and_what_it_is_for():
    (provider,) = load_providers(str(PROVIDER))
    assert isinstance(provider, InlineProvider)
    expected = {
        "EmbedCorpus": [ModelConfig, OutputConfig, RecordConfig],
        "EmbedFiles": [CorpusConfig, ModelConfig, OutputConfig],
        "ReadCorpus": [CorpusConfig],
    }
    assert set(provider.provided_transforms()) == set(expected)
    for name, configs in expected.items():
        told = {field.name for field in provider.config_schema(name).fields}
        fields = {field for config in configs for field in config.model_fields}
        assert told - {"shards"} == fields
        assert len(provider.description(name)) > 30
    assert provider.requires_inputs("EmbedCorpus", {})
    assert not provider.requires_inputs("EmbedFiles", {})
    assert not provider.requires_inputs("ReadCorpus", {})


def test_settings_are_parted_among_their_configurations():
    settings = {"model": "m", "output": "o", "version": "v", "chunk": "tokens", "prompt": None}
    configured = transforms._configured(settings, ModelConfig, OutputConfig, RecordConfig)
    assert [json.loads(one.model_dump_json(exclude_unset=True)) for one in configured] == [
        {"model": "m"},
        {"output": "o", "version": "v"},
        {"chunk": "tokens"},
    ]
