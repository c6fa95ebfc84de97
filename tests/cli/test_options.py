"""Options and job files against the settings they stand for."""

import os
from functools import cache
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
import yaml
from every_setting import all_other, as_yaml, other
from running import flags, one_line
from typer.testing import CliRunner

from embedkit.cli.app import COMMANDS, app, command_of
from embedkit.cli.arguments import Inputs
from embedkit.cli.options import job_command, read_job
from embedkit.config import JobConfig
from embedkit.errors import ConfigError

_NAMES = [name for name in JobConfig.model_fields if name != "inputs"]
LEAST = {"inputs": ["a.jsonl"], "model": "m", "output": "o"}


def parsed(*arguments: str) -> JobConfig:
    """The job that a command would get from its arguments."""
    found: list[JobConfig] = []
    command = typer.Typer()

    def show(inputs: Inputs = None, *, settings: dict[str, Any]) -> None:
        found.append(read_job(inputs or [], settings))

    command.command()(job_command(show))
    result = CliRunner().invoke(command, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return found[0]


def fault(*arguments: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parsed(*arguments)
    assert raised.value.exit_code == 2
    return one_line(str(raised.value))


@pytest.fixture
def job_file(tmp_path):
    """Writes a job file and returns its path."""

    def write(settings: Any) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        return str(path)

    return write


def test_every_setting_has_a_flag():
    job = all_other()
    assert parsed(*flags(job)) == job


def test_the_least_command_line():
    assert parsed("a.jsonl", "--model", "m", "--output", "o") == JobConfig(**LEAST)


def test_every_setting_has_a_key_in_a_job_file(job_file):
    job = all_other()
    assert parsed(job_file(as_yaml(job))) == job


def test_a_flag_stands_above_the_job_file(job_file):
    """For every setting: the flag wins over the file's own value, and nothing else changes."""
    for name in _NAMES:
        _check_that_a_flag_stands_above(job_file, name)


def _check_that_a_flag_stands_above(job_file, name):
    job = JobConfig(**LEAST, **({name: other(name)} if name not in LEAST else {}))
    arguments = flags(job.model_copy(update={name: getattr(all_other(), name)}))[1:]
    place = arguments.index(next(one for one in arguments if name.replace("_", "-") in one))
    values = getattr(all_other(), name)
    length = 1 if isinstance(values, bool) else 2 * len(values) if isinstance(values, tuple) else 2
    found = parsed(job_file(LEAST), *arguments[place : place + length])
    assert found == JobConfig(**LEAST).model_copy(update={name: values})


def test_an_on_off_flag_stands_above_the_job_file_in_both_directions(job_file):
    for in_file, flag, expected in [
        (True, "--no-store-text", False),
        (False, "--store-text", True),
        (True, "--no-normalize", False),
    ]:
        name = expected_name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        found = parsed(job_file(LEAST | {name: in_file}), flag)
        assert getattr(found, expected_name) is expected


def test_a_list_flag_replaces_the_list_of_the_job_file(job_file):
    file = job_file(LEAST | {"metadata_columns": ["a", "b"]})
    assert parsed(file).metadata_columns == ("a", "b")
    assert parsed(file, "--metadata-columns", "c").metadata_columns == ("c",)


def test_inputs_after_a_job_file_replace_its_own(job_file):
    file = job_file(LEAST)
    assert parsed(file, "b.jsonl", "c.jsonl").inputs == ("b.jsonl", "c.jsonl")
    inputless = job_file({"model": "m", "output": "o"})
    assert parsed(inputless, "b.jsonl").inputs == ("b.jsonl",)


def test_one_value_is_a_list_of_one_in_a_job_file(job_file):
    job = parsed(job_file(LEAST | {"inputs": "corpus/", "metadata_columns": "stars"}))
    assert (job.inputs, job.metadata_columns) == (("corpus/",), ("stars",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modle": "m"}, "modle is no setting of a job, did you mean model?"),
        ({"qqq": 1}, "qqq is no setting of a job"),
        ({7: 1}, "7 is no setting of a job"),
        ({"block_rows": "many"}, "block_rows = 'many': input should be a valid integer"),
        ({"block_rows": 0}, "block_rows = 0: input should be greater than 0"),
        ({"block_rows": [1]}, "block_rows = [1]: input should be a valid integer"),
        ({"text_column": 5}, "text_column = 5: expected a text; put it in quotes"),
        ({"text_column": None}, "text_column = None: input should be a valid string"),
        ({"format": "xml"}, "format = 'xml': input should be 'auto', 'text', 'jsonl'"),
        ({"normalize": "perhaps"}, "normalize = 'perhaps': input should be a valid boolean"),
        ({"max_reject_share": 2}, "max_reject_share = 2: input should be less than or equal"),
        ({"inputs": []}, "inputs = []: "),
        ({"inputs": [1]}, "inputs = 1: expected a text; put it in quotes"),
        ({"metadata_columns": ["text"]}, "metadata_columns: text is a column of embedkit's own"),
        ({"model": None}, "model = None: input should be a valid string"),
        ({"version": "a/b"}, "version = 'a/b': "),
        ({"prompt": "x" * 500, "chunk": "x" * 500}, "chunk = 'xxx"),
    ],
)
def test_what_is_wrong_in_a_job_file_is_said_in_one_line(job_file, change, said):
    file = job_file(LEAST | change)
    line = fault(file)
    assert line.startswith(f"{file}: {said}")
    assert len(line) < len(file) + 300


def test_all_that_is_wrong_is_said_at_once(job_file):
    file = job_file({"modle": "m", "block_rows": -1, "inputs": ["a"]})
    line = fault(file)
    for said in ("modle is no setting", "block_rows = -1", "output is missing, give --output"):
        assert said in line


@pytest.mark.parametrize("name", LEAST)
def test_what_is_missing_is_named_with_its_flag(job_file, name):
    flag = "INPUT" if name == "inputs" else f"--{name}"
    file = job_file({key: value for key, value in LEAST.items() if key != name})
    assert fault(file) == f"{file}: {name} is missing, give {flag}"


def test_nothing_at_all_is_a_fault_of_the_command_line():
    line = fault()
    assert line.startswith("the command line: ")
    for flag in ("INPUT", "--model", "--output"):
        assert f"is missing, give {flag}" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing, expected lines such as 'model: DIRECTORY'"),
        ("- a\n- b\n", "holds a list, expected"),
        ("inputs\n", "holds a str, expected"),
        ("inputs: [a\nmodel: m\n", "cannot be read as YAML: while parsing a flow sequence"),
        ("a: !!python/object/apply:os.system ['touch /tmp/x']\n", "cannot be read as YAML: could"),
        ("model: m\nmodel: n\n", "cannot be read as YAML: model is said twice"),
        ("b: \x00\n", "cannot be read as YAML: unacceptable character"),
    ],
)
def test_a_file_that_is_no_job(job_file, text, said):
    file = job_file(text)
    assert fault(file).startswith(f"{file}: {said}")


def test_a_job_file_that_cannot_be_read(tmp_path):
    missing = tmp_path / "no.yaml"
    assert fault(str(missing)) == f"{missing}: no such job file; check the path"
    folder = tmp_path / "folder.yml"
    folder.mkdir()
    assert fault(str(folder)).startswith(f"{folder}: cannot be read as YAML: ")
    (tmp_path / "latin.yaml").write_bytes(b"model: caf\xe9\n")
    assert "cannot be read as YAML: 'utf-8' codec" in fault(str(tmp_path / "latin.yaml"))


def test_defaults_yield_to_the_job_file_and_to_flags(job_file):
    outputless = job_file({"inputs": ["a"], "model": "m"})
    assert read_job([outputless], {}, output=".").output == "."
    assert read_job([outputless], {"output": "x"}, output=".").output == "x"
    assert read_job([job_file(LEAST)], {}, output=".").output == "o"


# --- the help ---


@cache
def help_of(command: str) -> str:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.stdout


def squeezed(text: str) -> str:
    """Without the table's borders and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("command", ["run", "plan"])
def test_help_names_every_flag_with_its_sentence_choices_and_default(command):
    for name in _NAMES:
        _check_help_of(command, name)


def _check_help_of(command, name):
    field = JobConfig.model_fields[name]
    lines = help_of(command).splitlines()
    flag = f"--{name.replace('_', '-')} "
    (first,) = [number for number, line in enumerate(lines) if flag in line]
    rows = [lines[first]]
    for line in lines[first + 1 :]:
        if "--" in line[:12] or "──" in line:
            break
        rows.append(line)
    text = squeezed("\n".join(rows))
    assert " ".join(field.description.split()) in text
    if get_origin(field.annotation) is Literal:
        assert f"one of: {', '.join(get_args(field.annotation))}" in text
    default = field.get_default()
    if isinstance(default, int | float | str) and not isinstance(default, bool) and default:
        shown = f"{default:,}" if isinstance(default, int) else f"{default}".removesuffix(".0")
        assert f"default: {shown}]" in text


def test_no_line_of_the_help_is_cut_off():
    for command in ("run", "plan", "info", "search", "validate"):
        text = help_of(command)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def test_the_options_of_all_commands_have_sentences():
    for name, (_, what) in COMMANDS.items():
        command = command_of(name)
        assert command.help.partition("\n\n")[0].replace("\n", " ") == what
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
            assert parameter.help.split(" \\[")[0].endswith(".")


PAIRS = zip("abcdefgh", "bcdefghi", strict=True)
BOMB = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in PAIRS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB, "aliases"),
        ("model: &m dir\noutput: *m\n", "aliases"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "aliases"),
        ("a: &a [*a]\n", "aliases"),
        ("inputs: " + "[" * 100_000, "nested too deep"),
        ("a: " + "{a: " * 50_000, "nested too deep"),
        ("- " * 30_000 + "x", "nested too deep"),
        ("model: x\nmodel: y\n", "model is said twice"),
        ("? [a]\n: b\n", "a key is no plain word"),
        ("? {a: b}\n: b\n", "a key is no plain word"),
        ("x" * (2 << 20), "more than 1,048,576 bytes"),
        ("version: 2026-13-45\n", "cannot be read as YAML: month must be in"),
        ("workers: " + "9" * 5000 + "\n", "cannot be read as YAML: Exceeds the limit"),
        ("model: !!python/object/apply:os.system [ls]\n", "cannot be read as YAML"),
        ("model: a\x00b\n", "cannot be read as YAML"),
        ("a: b: c\n", "cannot be read as YAML"),
        (b"model: \xff\xfe\n", "cannot be read as YAML"),
        ("--- a\n--- b\n", "cannot be read as YAML"),
        ("- inputs\n", "holds a list"),
        ("just words\n", "holds a str"),
        ("42\n", "holds a int"),
        ("", "holds nothing"),
        (
            "".join(f"key{n}: 1\n" for n in range(5_000)),
            "key0 is no setting of a job.* and 4,983 more",
        ),
    ],
    ids=range(23),
)
@pytest.mark.few(10)
def test_job_files_of_strangers(content, said, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=said) as raised:
        read_job([str(file)], {})
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 5000


def test_a_job_file_that_is_no_file(tmp_path):
    file = tmp_path / "job.yaml"
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="no regular file"):
        read_job([str(file)], {})
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no regular file"):
        read_job([str(file)], {})
