"""``embedkit convert`` from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedkit.cli.app import app


@pytest.mark.parametrize(("flags", "lower_case"), [([], True), (["--lowercase", "no"], False)])
def test_a_file_becomes_a_model(tmp_path: Path, flags: list[str], lower_case: bool) -> None:
    (tmp_path / "v.txt").write_text("rain 1 2\nsun 3 4\nrain 5 6\n")
    output = str(tmp_path / "model")
    arguments = ["convert", str(tmp_path / "v.txt"), "--output", output, "--json", *flags]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "directory": output, "words": 2, "dimension": 2, "lower_case": lower_case,
        "duplicates": 1, "undecodable": 0, "with_blanks": 0, "texts": None,
    }  # fmt: skip


def test_people_read_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("rain 1 2\nsun 3 4\nrain 5 6\n. . 1 2\n")
    arguments = ["convert", str(tmp_path / "v.txt"), "--output", str(tmp_path / "model")]
    lines = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert lines[0].endswith("model: 3 words, 2 components, texts lower-cased")
    assert lines[1] == "  1 more vectors of words that were there before, left out"
    assert lines[2] == "  1 words with white space in them, which no text has"


@pytest.mark.parametrize(
    ("file", "output", "message"),
    [
        ("v.txt", "s3://KEY:SECRET@bucket/model", "a model is written to a local directory"),
        ("v.txt", "gs://bucket/model", "output gs://bucket/model: a model is written to a local"),
        ("https://a:SECRET@host/v.txt", "model", "https://host/v.txt: word vectors are read from"),
        ("s3://bucket/v.txt", "model", "s3://bucket/v.txt: word vectors are read from a local"),
    ],
)
def test_stores_are_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, output: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.txt").write_text("rain 1 2\nsun 3 4\n")
    done = CliRunner().invoke(app, ["convert", file, "--output", output])
    assert message in str(done.exception)
    assert "SECRET" not in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"]
