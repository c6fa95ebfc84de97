"""The schema of a job file against what a job file may hold."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from every_setting import all_other, as_yaml
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.config import EvaluationConfig, JobConfig


@pytest.fixture(scope="module")
def check() -> jsonschema.Draft202012Validator:
    """Checks job files by the schema that the command prints."""
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_setting_is_there_with_its_sentence(check):
    properties = check.schema["properties"]
    assert set(properties) == {*JobConfig.model_fields, "evaluation"}
    for name, field in JobConfig.model_fields.items():
        assert properties[name]["description"] == field.description
    asked = properties["evaluation"]["properties"]
    assert set(asked) == set(EvaluationConfig.model_fields)
    assert asked["sts"]["description"] == EvaluationConfig.model_fields["sts"].description


def test_it_takes_what_jobs_take(check):
    check.validate(as_yaml(all_other()))
    check.validate({"inputs": "a.jsonl", "model": "m", "output": "o", "metadata_columns": "a"})
    check.validate({"encoders": 3, "workers": "auto", "max_tokens": None})
    check.validate({"encoders": "1..8", "workers": 2})
    check.validate({"evaluation": {"sts": "a.csv", "retrieval": ["b", "c"], "storage": True}})
    check.validate({"evaluation": None})
    check.validate(yaml.safe_load(Path("pipelines/nightly.yaml").read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"modle": "m"},
        {"chunk": "words"},
        {"inputs": []},
        {"inputs": 3},
        {"block_rows": 0},
        {"block_rows": "many"},
        {"max_reject_share": 1.5},
        {"version": "../elsewhere"},
        {"encoders": "0..2"},
        {"workers": "some"},
    ],
)
def test_it_refuses_what_jobs_refuse(check, wrong):
    with pytest.raises(jsonschema.ValidationError):
        check.validate(wrong)
    with pytest.raises(ValueError):
        JobConfig.model_validate({"inputs": ["a"], "model": "m", "output": "o"} | wrong)
