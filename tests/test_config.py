"""Settings: each once, each with its sentence, and wrong ones named."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedkit.config import (
    CorpusConfig,
    EngineConfig,
    JobConfig,
    ModelConfig,
    OutputConfig,
)
from embedkit.errors import ConfigError

JOB = {"inputs": ("a.jsonl",), "model": "m", "output": "o"}


def test_the_least_job_and_its_defaults():
    job = JobConfig(**JOB)
    assert (job.text_column, job.block_rows, job.chunk) == ("text", 8_192, "none")
    assert (job.engine, job.backend, job.vector_dtype) == ("local", "auto", "float32")
    assert (job.normalize, job.dimensions, job.id_column) == (None, None, None)


def test_places_may_be_paths():
    places = {"inputs": [Path("a.jsonl")], "model": Path("m"), "output": Path("o")}
    assert JobConfig(**places) == JobConfig(**JOB)
    assert JobConfig(**JOB, base=Path("b")).base == "b"


def test_a_job_is_its_four_parts_and_nothing_is_said_twice():
    parts = (CorpusConfig, ModelConfig, OutputConfig, EngineConfig)
    names = [name for part in parts for name in part.model_fields]
    assert len(names) == len(set(names))
    assert set(names) == set(JobConfig.model_fields)


def test_every_setting_has_a_sentence():
    for name, field in JobConfig.model_fields.items():
        assert field.description, name
        assert field.description[0].isalpha(), name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": ()}, "inputs"),
        ({"format": "xml"}, "format"),
        ({"block_rows": 0}, "block_rows"),
        ({"split_bytes": -1}, "split_bytes"),
        ({"chunk_overlap": -1}, "chunk_overlap"),
        ({"max_reject_share": 1.1}, "max_reject_share"),
        ({"max_reject_share": float("nan")}, "max_reject_share"),
        ({"calls_in_flight": 5}, "calls_in_flight"),
        ({"calls_in_flight": 0}, "calls_in_flight"),
        ({"encoder_timeout": 0}, "encoder_timeout"),
        ({"vector_dtype": "int4"}, "vector_dtype"),
        ({"engine": "spark"}, "engine"),
        ({"version": "../up"}, "version"),
        ({"version": ""}, "version"),
        ({"version": "v1\n"}, "version"),
        ({"version": ".hidden"}, "version"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"metadata_columns": ("embedding",)}, "embedding"),
        ({"metadata_columns": ("text:string",)}, "text"),
        ({"metadata_columns": ("a", "a:int64")}, "twice"),
        ({"granularity": "sentence"}, "granularity"),
        ({"granularity": "document", "chunk": "tokens"}, "granularity: document, but with chunk"),
        ({"granularity": "chunk"}, "granularity: chunk, but documents stay whole"),
        ({"granularity": "token", "metadata_columns": ("a", "spans:string")}, "spans"),
        ({"granularity": "word", "metadata_columns": ("tokens",), "chunk": "tokens"}, "tokens"),
    ],
)
def test_a_wrong_setting_is_named(change, named):
    with pytest.raises(ConfigError) as raised:
        JobConfig(**(JOB | change))
    assert named in str(raised.value)


@pytest.mark.parametrize("name", ["inputs", "model", "output"])
def test_what_has_no_default_must_be_given(name):
    with pytest.raises(ConfigError, match=name):
        JobConfig(**{key: value for key, value in JOB.items() if key != name})


def test_one_value_where_a_list_is_expected_is_a_list_of_one(tmp_path):
    changed = JOB | {"inputs": tmp_path, "metadata_columns": "stars:int64"}
    for job in (JobConfig(**changed), JobConfig.model_validate(changed)):
        assert (job.inputs, job.metadata_columns) == ((str(tmp_path),), ("stars:int64",))


def test_what_is_wrong_is_one_line_for_who_makes_them_and_the_checker_s_for_who_reads_them():
    with pytest.raises(ConfigError) as found:
        JobConfig(**JOB, block_rows=0, engine="slow")
    assert "\n" not in str(found.value)
    assert "https" not in str(found.value)
    assert {"block_rows", "engine"} == {one.split(":")[0] for one in str(found.value).split("; ")}
    with pytest.raises(ValidationError):
        JobConfig.model_validate(JOB | {"block_rows": 0})


def test_a_job_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        JobConfig(**JOB).model = "other"


def test_reading_settings_loads_nothing_heavy():
    heavy = ("torch", "transformers", "pyarrow", "apache_beam", "ray", "openvino")
    code = (
        "import sys, embedkit.config, embedkit.errors, embedkit.cli.app;"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["block_rows", "max_reject_share", "chunk_tokens"])
def test_a_switch_is_no_number(name):
    with pytest.raises(ConfigError, match=f"{name}: expected a number, not true or false"):
        JobConfig(**JOB, **{name: True})


@pytest.mark.parametrize("name", ["prompt", "text_column", "metadata_columns", "version"])
def test_half_a_character_is_no_text(name):
    value = ("a\ud800",) if name == "metadata_columns" else "a\ud800"
    with pytest.raises(ConfigError):
        JobConfig(**JOB, **{name: value})
    assert JobConfig(**(JOB | {"inputs": ("a\udcff.jsonl",)})).inputs
