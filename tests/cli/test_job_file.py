"""The job file that `embedkit init` writes, run as it stands."""

import csv
import json
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from calling import call
from running import Dataset

from embedkit.cli.job_schema import job_schema
from embedkit.cli.options import read_job

pytestmark = pytest.mark.usefixtures("logging_restored")

ROWS = [
    {"doc_id": f"d{n}", "stars": n % 3, "headline": f"head {n % 2}", "story": f"a longer text {n}"}
    for n in range(20)
]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"corpus.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=";" if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "tsv"])
def test_what_is_written_runs_as_it_stands(tiny_model, tmp_path, kind):
    corpus, job = write(tmp_path, kind), tmp_path / "job.yaml"
    given = ("--model", tiny_model, "--output", str(tmp_path / "out"), "--job", str(job))
    answer = call("init", str(corpus), *given)
    assert answer.out == f"wrote {job}; look through it, then: embedkit plan {job}\n"
    text = job.read_text()
    first, *_ = text.splitlines()
    assert first == "# yaml-language-server: $schema=embedkit.schema.json"
    jsonschema.validate(yaml.safe_load(text), job_schema())
    found = read_job([str(job)], {})
    assert (found.text_column, found.id_column) == ("story", "doc_id")
    # The tiny model is a plain directory, which names no pooling.
    assert found.pooling == "mean"
    assert found.delimiter == (";" if kind == "csv" else None)
    assert '# metadata_columns: ["stars", "headline"]' in text
    done = call("run", str(job), "--engine", "plain", "--backend", "torch", "--json").json
    assert (done["rows"], done["rejects"]) == (20, 0)
    assert sorted(Dataset.latest(tmp_path / "out").table["id"].to_pylist()) == sorted(
        row["doc_id"] for row in ROWS
    )


def test_plain_text_has_no_columns(tiny_model, tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    job = tmp_path / "job.yaml"
    assert call("init", str(tmp_path / "a.txt"), "--model", tiny_model, "--job", str(job)).code == 0
    assert "text_column" not in job.read_text()
    assert read_job([str(job)], {}).text_unit == "line"


def test_names_are_never_more_than_values(tiny_model, tmp_path):
    """Names of columns and folders that would be YAML of their own."""
    evil = "x\nmodel: other\n# 'y': \"z\" {é}"
    folder = tmp_path / "a: b #c"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({evil: "a text of some words", "id": 1}))
    job = tmp_path / "job.yaml"
    call("init", str(folder), "--model", tiny_model, "--job", str(job))
    found = read_job([str(job)], {})
    assert (found.inputs, found.text_column, found.id_column) == ((str(folder),), evil, "id")
    assert found.model == tiny_model


def test_an_id_must_be_unique_and_there(tiny_model, tmp_path):
    rows = [{"id": n % 4, "uuid": None if n == 3 else n, "text": f"t {n}"} for n in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = tmp_path / "job.yaml"
    call("init", str(tmp_path / "a.jsonl"), "--model", tiny_model, "--job", str(job))
    assert read_job([str(job)], {}).id_column is None


def test_nothing_is_overwritten_and_nothing_written_in_vain(tiny_model, tmp_path):
    corpus, job = write(tmp_path, "jsonl"), tmp_path / "job.yaml"
    for model, inputs, said in (
        ("/nowhere", corpus, "model /nowhere: no such directory"),
        (tiny_model, tmp_path / "no.jsonl", "no.jsonl: no such file"),
    ):
        answer = call("init", str(inputs), "--model", model, "--job", str(job))
        assert (answer.code, job.exists()) == (2, False)
        assert said in answer.error
    job.write_text("mine")
    answer = call("init", str(corpus), "--model", tiny_model, "--job", str(job))
    assert (answer.code, job.read_text()) == (2, "mine")
    assert answer.error.startswith(f"{job}: exists already")


def test_secrets_of_urls_are_left_out(bucket, s3_server, tiny_model, tmp_path):
    import boto3

    line = json.dumps({"text": "one"}).encode()
    boto3.client("s3", endpoint_url=s3_server).put_object(Bucket=bucket, Key="a.jsonl", Body=line)
    job, at = tmp_path / "job.yaml", f"s3://AKIAEXAMPLE:Tr0ub4dor@{bucket}"
    given = ("--model", tiny_model, "--output", f"{at}/out", "--job", str(job))
    assert call("init", f"{at}/a.jsonl", *given).code == 0
    assert "Tr0ub4dor" not in (text := job.read_text())
    assert "AWS_SECRET_ACCESS_KEY" in text
    found = read_job([str(job)], {})
    assert (found.inputs, found.output) == ((f"s3://{bucket}/a.jsonl",), f"s3://{bucket}/out")


@pytest.mark.parametrize(
    "written",
    [
        "prompt: |-\n  Instruct: find a fox\n  Query:\n",
        'prompt: "Instruct: find a fox\\nQuery:"\n',
        "prompt: 'Instruct: find a fox\n\n  Query:'\n",
    ],
    ids=["block", "escape", "empty line"],
)
def test_instructions_of_several_lines(written, tmp_path):
    """As decoders want them before a query, however YAML spells the end of a line."""
    job = tmp_path / "job.yaml"
    job.write_text(f"inputs: a.jsonl\nmodel: m\noutput: o\n{written}")
    assert read_job([str(job)], {}).prompt == "Instruct: find a fox\nQuery:"
