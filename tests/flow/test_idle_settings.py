"""Which settings are said to have no effect, and which are not."""

import pytest
from running import flags, tiny_job, write_jsonl
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.config import JobConfig
from embedkit.flow.idle_settings import Circumstances, idle_settings

pytestmark = pytest.mark.usefixtures("logging_restored")

CPU = Circumstances({"jsonl"}, {"none"}, "cpu")
GPU = Circumstances({"jsonl"}, {"none"}, "cuda")
TEXT = Circumstances({"text"}, {"none"}, "cpu")
CSV = Circumstances({"jsonl", "tsv"}, {"none"}, "cpu")
MIXED = Circumstances({"text", "jsonl"}, {"none", "gzip"}, "cpu")


def idle(at: Circumstances = CPU, **settings: object) -> list[str]:
    """The names of the settings that are said to be idle."""
    job = JobConfig.model_validate({"inputs": ["a"], "model": "m", "output": "o"} | settings)
    return [one.split()[0].removeprefix("--") for one in idle_settings(job, at)]


@pytest.mark.parametrize(
    ("settings", "at", "names"),
    [
        ({"chunk_tokens": 64}, CPU, ["chunk-tokens"]),
        ({"chunk_tokens": 64, "chunk_overlap": 8}, CPU, ["chunk-tokens", "chunk-overlap"]),
        ({"text_column": "body", "text_template": "{a}"}, CPU, ["text-column"]),
        ({"text_column": "body"}, TEXT, ["text-column"]),
        ({"text_unit": "file"}, CPU, ["text-unit"]),
        ({"delimiter": ";", "quote": "'"}, CPU, ["delimiter", "quote"]),
        (
            {"escape": "~", "columns": "a,b", "max_record_lines": 3},
            TEXT,
            ["escape", "columns", "max-record-lines"],
        ),
        ({"max_reject_share": 0.5, "publish_anyway": True}, CPU, ["max-reject-share"]),
        ({"allow_damaged_files": True, "publish_anyway": True}, CPU, ["allow-damaged-files"]),
        ({"max_decompressed_bytes": 9}, CPU, ["max-decompressed-bytes"]),
        (
            {"words": "bat", "word_pattern": "b", "word_pooling": "last", "special_tokens": True},
            CPU,
            ["word-pooling", "word-pattern", "words", "special-tokens"],
        ),
        ({"words": "bat", "granularity": "token"}, CPU, ["words"]),
        ({"special_tokens": True, "granularity": "word"}, CPU, ["special-tokens"]),
        ({"store_tokens": True, "granularity": "document"}, CPU, ["store-tokens"]),
        ({"pooling": "cls", "granularity": "token"}, CPU, ["pooling"]),
        ({"pooling": "cls", "granularity": "word"}, CPU, ["pooling"]),
        ({"ray_address": "host:1"}, CPU, ["ray-address"]),
        ({"ray_address": "host:1", "engine": "plain"}, CPU, ["ray-address"]),
        ({"encoder_wait": 3, "max_lost_workers": 3}, CPU, ["encoder-wait", "max-lost-workers"]),
        ({"encoder_cpus": 2}, CPU, ["encoder-cpus"]),
        ({"encoder_cpus": 2, "engine": "ray"}, GPU, ["encoder-cpus"]),
        ({"onnx_file": "model.onnx", "backend": "torch"}, CPU, ["onnx-file"]),
        ({"allow_tokenizer_mismatch": True}, CPU, ["allow-tokenizer-mismatch"]),
        ({"encoder_threads": 2}, GPU, ["encoder-threads"]),
        ({"encoders_per_gpu": 2}, CPU, ["encoders-per-gpu"]),
        ({"encoders_per_gpu": 2, "engine": "plain"}, GPU, ["encoders-per-gpu"]),
        ({"encoders": "1..2"}, CPU, ["encoders"]),
        ({"encoders": 2, "engine": "plain"}, CPU, ["encoders"]),
        (
            {"workers": 2, "calls_in_flight": 3, "encoder_timeout": 3, "engine": "plain"},
            CPU,
            ["workers", "calls-in-flight", "encoder-timeout"],
        ),
    ],
)
def test_what_decides_nothing_is_said(settings, at, names):
    assert idle(at, **settings) == names


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({}, CPU),
        ({"chunk": "tokens", "chunk_tokens": 64, "chunk_overlap": 8}, CPU),
        ({"text_column": "body"}, MIXED),
        ({"text_template": "{a}"}, CPU),
        ({"delimiter": ";", "quote": "'", "columns": "a,b"}, CSV),
        ({"max_reject_share": 0.5, "allow_damaged_files": True, "limit": 3}, CPU),
        ({"text_unit": "file", "max_decompressed_bytes": 9}, MIXED),
        ({"engine": "ray", "ray_address": "h:1", "encoder_cpus": 2, "encoders": "1..2"}, CPU),
        ({"engine": "ray", "encoder_wait": 3, "max_lost_workers": 3}, CPU),
        ({"encoders_per_gpu": 2, "encoders": 2}, GPU),
        ({"encoder_threads": 2, "encoders": 2, "workers": 3, "calls_in_flight": 3}, CPU),
        (
            {"granularity": "word", "words": "bat", "word_pattern": "b", "word_pooling": "max"},
            CPU,
        ),
        ({"granularity": "token", "special_tokens": True, "store_tokens": True}, CPU),
        ({"granularity": "document", "pooling": "cls"}, CPU),
        # What a job file writes out as it is by default misleads nobody.
        ({"chunk_overlap": 0, "text_unit": "line", "ray_address": "auto"}, CPU),
    ],
)
def test_what_decides_something_is_not(settings, at):
    assert idle(at, **settings) == []


@pytest.mark.parametrize("name", ["run", "plan"])
def test_the_command_says_it(tiny_model, tmp_path, name):
    corpus = write_jsonl(tmp_path / "a.jsonl", [{"text": "a text"}])
    job = tiny_job(tiny_model, corpus, tmp_path / "out", chunk_tokens=64, max_reject_share=0.5)
    done = CliRunner().invoke(app, [name, *flags(job)], standalone_mode=False)
    said = ["--chunk-tokens 64 has no effect: documents stay whole without --chunk"]
    if name == "plan":
        said.insert(0, "--max-reject-share has no effect: a plan rejects nothing")
    warnings = [line.split(" WARNING ")[1] for line in done.stderr.splitlines() if "WARN" in line]
    assert (done.exception, warnings) == (None, said)
