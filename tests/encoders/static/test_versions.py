"""Versions of static vectors: what is counted, rejected, reported, searched and refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedkit import JobConfig, plan_job, run_job, search_text
from embedkit.dataset.validate import validate
from embedkit.dataset.version import find_version
from embedkit.encoders.static.directory import write_directory
from embedkit.errors import ConfigError

WORDS = ["rain", "falls", "on", "the", "plain", "sun", "."]
TEXTS = {
    "a": "Rain falls on the plain.",
    "b": "Rain falls on xqzy, and zyqx.",
    "c": "unheard of",
    "d": "\u200b",
    "e": "Sun",
}


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    matrix = np.random.default_rng(8).normal(size=(len(WORDS), 4)).astype(np.float32)
    write_directory(tmp_path / "model", matrix, WORDS)
    lines = (json.dumps({"key": key, "text": text}) for key, text in TEXTS.items())
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    return JobConfig(
        inputs=(str(tmp_path / "in.jsonl"),),
        model=str(tmp_path / "model"),
        output=str(tmp_path / "out"),
        id_column="key",
        engine="plain",
        publish_anyway=True,
    )


def rows_of(root: str) -> list[dict[str, object]]:
    parts = sorted(Path(find_version(root).url).glob("data/*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return sorted(rows, key=lambda row: str(row["id"]))


def test_unknown_words_are_counted_and_reported(job: JobConfig) -> None:
    result = run_job(job)
    rows = rows_of(job.output)
    assert [(row["id"], row["n_tokens"], row["n_unknown"]) for row in rows] == [
        ("a", 6, 0),
        ("b", 8, 4),
        ("e", 1, 0),
    ]
    assert result.reject_reasons == {"no_tokens": 1, "out_of_vocabulary": 1}
    assert result.to_dict()["unknown_share"] == result.unknown_share == 4 / 15
    report = json.loads(Path(find_version(job.output).url, "report/report.json").read_text())
    assert report["unknown"] == {"tokens": 4, "token_share": 4 / 15}
    assert any("not in the model's vocabulary" in found["text"] for found in report["findings"])
    page = Path(find_version(job.output).url, "report/report.html").read_text()
    assert "are not in the model's vocabulary.</p>" in page
    assert not validate(find_version(job.output)).problems
    assert run_job(job).unknown_share == 4 / 15


def test_search_finds_the_row_of_its_own_text(job: JobConfig) -> None:
    run_job(job)
    hits = search_text(job.output, "rain falls on the plain.", k=2)
    assert [hit.id for hit in hits] == ["a", "b"]
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert "n_unknown" not in hits[0].metadata
    with pytest.raises(ConfigError, match="no word of the text to look for has a vector"):
        search_text(job.output, "unheard of")


def test_chunks_of_unknown_words_are_left_out(job: JobConfig) -> None:
    text = {"key": "a", "text": "Rain falls.\n\nUnheard of\n\nThe sun."}
    Path(job.inputs[0]).write_text(json.dumps(text))
    run_job(job.model_copy(update={"chunk": "paragraphs", "chunk_tokens": 3}))
    assert [(row["char_start"], row["n_unknown"]) for row in rows_of(job.output)] == [
        (0, 0),
        (25, 0),
    ]


def test_a_plan_is_made_of_them(job: JobConfig) -> None:
    found = plan_job(job)
    assert (found.rows, found.tokens) == (5, 18)
    assert found.seconds is not None


@pytest.mark.parametrize("value", [7, "seven"])
def test_a_metadata_column_cannot_have_the_name(
    job: JobConfig, tiny_model: str, value: object
) -> None:
    lines = (
        json.dumps({"key": key, "text": text, "n_unknown": value}) for key, text in TEXTS.items()
    )
    Path(job.inputs[0]).write_text("\n".join(lines))
    with_column = job.model_copy(update={"metadata_columns": ("n_unknown",)})
    with pytest.raises(ConfigError, match="n_unknown is a column of embedkit's own where vectors"):
        run_job(with_column)
    changes = {"model": tiny_model, "pooling": "mean", "device": "cpu", "backend": "torch"}
    result = run_job(with_column.model_copy(update=changes))
    assert "unknown_share" not in result.to_dict()
    assert {row["n_unknown"] for row in rows_of(job.output)} == {value}
    assert search_text(job.output, "sun", k=1)[0].metadata == {"n_unknown": value}
