"""The commands as a person and a program use them; ends and terminals in real processes."""

import bz2
import fcntl
import gzip
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
import zstandard
from calling import call
from processes import alive, command, family, wait_for_commits, wait_until
from running import (
    Dataset,
    embedkit_command,
    flags,
    last_error,
    one_line,
    records,
    run_process,
    tiny_job,
    write_corpus,
    write_jsonl,
)

import embedkit
from embedkit.config import JobConfig
from embedkit.encoders import hardware

pytestmark = pytest.mark.usefixtures("logging_restored")

PROMISED = [
    "version",
    "documents",
    "rows",
    "rejects",
    "tokens",
    "tokens_encoded",
    "rows_resumed",
    "truncated_share",
    "encode_seconds",
    "encoder_busy_share",
    "tokens_per_second",
    "report",
    "nulled",
    "published",
    "reject_reasons",
    "rows_reused",
    "rows_encoded",
    "rows_added",
    "rows_removed",
    "rows_changed",
    "tokens_saved",
    "verdict",
]


PHASES = ["starting Ray", "loading the model", "completing the version"]


def files(root: Path) -> dict[Path, tuple[int, int, int]]:
    found = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


@pytest.fixture(scope="module")
def job(tiny_model, tmp_path_factory) -> Callable[..., JobConfig]:
    """Makes jobs over one corpus of 90 records."""
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"), shards=3, rows=30)

    def make(output: Path, **changes: object) -> JobConfig:
        settings = {"id_column": "id", "metadata_columns": ("stars",), "store_text": True}
        return tiny_job(tiny_model, corpus, output, **(settings | changes))

    return make


@pytest.fixture(scope="module")
def root(job, tmp_path_factory) -> Path:
    """A root with the finished dataset of that job."""
    output = tmp_path_factory.mktemp("finished")
    assert call("run", *flags(job(output))).code == 0
    return output


# --- run ---


def test_run_tells_a_person_where_everything_is(job, tmp_path):
    answer = call("run", *flags(job(tmp_path / "out")), "--progress", "none")
    dataset = Dataset.latest(tmp_path / "out")
    lines = answer.out.splitlines()
    assert re.match(rf"version {dataset.folder.name}: encoded [\d,]+ tokens in 0:\d\d \(", lines[0])
    assert lines[1] == "  90 documents -> 90 rows, 0 rejects"
    assert lines[3].startswith("  May go live")
    assert lines[4:] == [
        f"  dataset {dataset.folder}",
        f"  report  {dataset.folder}/report/report.html",
    ]


def test_run_tells_a_program_what_was_promised(job, tmp_path):
    answer = call("run", *flags(job(tmp_path / "out")), "--json")
    dataset = Dataset.latest(tmp_path / "out")
    assert list(answer.json) == PROMISED
    counts = {name: answer.json[name] for name in ("documents", "rows", "rejects", "tokens")}
    assert counts == {name: dataset.manifest[name] for name in counts}
    assert answer.json["version"] == dataset.folder.name
    assert Path(answer.json["report"]).read_text().startswith("<!doctype html>")


def test_a_second_run_says_so_and_touches_nothing(job, root):
    before = files(root)
    spoken = call("run", *flags(job(root)))
    assert spoken.code == 0
    assert spoken.out.splitlines()[0].endswith(" is complete already, nothing to encode")
    written = call("run", *flags(job(root)), "--json")
    assert (written.code, list(written.json)) == (0, PROMISED)
    assert (written.json["tokens_encoded"], written.json["rows_resumed"]) == (0, 90)
    assert files(root) == before


def test_run_takes_a_job_file_with_flags_on_top(job, tmp_path):
    wanted = job(tmp_path / "out")
    settings = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    settings = {name: list(v) if isinstance(v, tuple) else v for name, v in settings.items()}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(settings | {"vector_dtype": "float16", "store_text": True}))
    answer = call("run", str(file), "--vector-dtype", "float32", "--no-store-text", "--json")
    assert answer.json["rows"] == 90
    schema = Dataset.latest(tmp_path / "out").table.schema
    assert "text" not in schema.names
    assert str(schema.field("embedding").type.value_type) == "float"


def bad_corpus(folder: Path) -> Path:
    """Ten records, four of them without a text."""
    rows = [{"id": f"d{n}", "text": "" if n < 4 else f"text {n}"} for n in range(10)]
    return write_jsonl(folder / "bad.jsonl", rows)


def test_rejects_above_the_share_allowed(tiny_model, tmp_path):
    wanted = tiny_job(tiny_model, bad_corpus(tmp_path), tmp_path / "out", id_column="id")
    for _ in ("the first run", "one that finds it finished"):
        answer = call("run", *flags(wanted), "--max-reject-share", "0.39", "--json")
        assert (answer.code, answer.json["rejects"], answer.json["rows"]) == (3, 4, 6)
        assert answer.json["published"] is False
        dataset = Dataset.only(tmp_path / "out")
        dataset.check_accounts(10)
        assert answer.error == (
            "4 of 10 documents were rejected, more than --max-reject-share 0.39 allows; version "
            f"{dataset.folder.name} is complete, but not published; see "
            f"{dataset.folder}/rejects, then mend the inputs, or give --publish-anyway; LATEST "
            "names it while there is no other"
        )
        # There is no other version that a reader could take.
        assert Dataset.latest(tmp_path / "out").folder == dataset.folder
    assert call("run", *flags(wanted), "--max-reject-share", "0.4").code == 0
    assert Dataset.latest(tmp_path / "out").folder == dataset.folder


def test_a_rejected_version_is_published_anyway_without_encoding_anything(tiny_model, tmp_path):
    good = tiny_job(tiny_model, bad_corpus(tmp_path), tmp_path / "out", max_reject_share=0.5)
    assert call("run", *flags(good)).code == 0
    before = (tmp_path / "out" / "LATEST").read_text()
    wanted = good.model_copy(update={"id_column": "id", "max_reject_share": 0.1})
    rejected = call("run", *flags(wanted), "--json")
    assert (rejected.code, (tmp_path / "out" / "LATEST").read_text()) == (3, before)
    assert rejected.error.endswith("; LATEST stays where it was")
    made = files(tmp_path / "out" / rejected.json["version"])
    # The report says of what is allowed now that it may go live.
    data = {path: stat for path, stat in made.items() if path.parent.name != "report"}

    answer = call("run", *flags(wanted), "--publish-anyway", "--json")
    assert (answer.code, answer.json["published"]) == (0, True)
    assert (answer.json["tokens_encoded"], answer.json["rows_resumed"]) == (0, 6)
    dataset = Dataset.latest(tmp_path / "out")
    assert dataset.folder.name == rejected.json["version"]
    assert files(dataset.folder).items() >= data.items()
    assert call("validate", str(tmp_path / "out")).code == 0

    # What it is told the next time holds for that run; what is published stays so.
    again = call("run", *flags(wanted), "--json")
    assert (again.code, again.json["published"]) == (3, True)
    assert again.error.endswith("; it was published before")
    assert Dataset.latest(tmp_path / "out").folder == dataset.folder


@pytest.mark.parametrize("texts", [[], ["", "  "]], ids=["no documents", "all rejected"])
def test_a_version_without_rows_is_an_error_and_never_the_latest(tiny_model, tmp_path, texts):
    good = tiny_job(tiny_model, bad_corpus(tmp_path), tmp_path / "out", max_reject_share=0.5)
    assert call("run", *flags(good)).code == 0
    before = (tmp_path / "out" / "LATEST").read_text()
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"text": text} for text in texts])
    wanted = tiny_job(tiny_model, empty, tmp_path / "out", max_reject_share=0.99)
    for flag in ([], ["--publish-anyway"], []):
        answer = call("run", *flags(wanted), *flag)
        assert answer.code == 3
        assert "so there are no rows" in answer.error
        assert (tmp_path / "out" / "LATEST").read_text() == before
    assert call("search", str(tmp_path / "out"), "text 7", "-k", "1").code == 0


def test_all_documents_may_be_rejected_where_that_is_said(tiny_model, tmp_path):
    empty = write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}, {"text": " "}])
    wanted = tiny_job(tiny_model, empty, tmp_path / "out", max_reject_share=1.0)
    answer = call("run", *flags(wanted))
    assert answer.code == 0
    assert "  no rows; LATEST names it only while there is no other\n" in answer.out
    latest = tmp_path / "out" / "LATEST"
    before = latest.read_text()
    assert call("info", str(tmp_path / "out")).code == 0
    assert call("search", str(tmp_path / "out"), "text", "-k", "1").code == 0
    good = tiny_job(tiny_model, write_jsonl(tmp_path / "good.jsonl", records(3)), tmp_path / "out")
    assert call("run", *flags(good)).code == 0
    assert latest.read_text() != before
    after = latest.read_text()
    assert call("run", *flags(wanted)).code == 0
    assert latest.read_text() == after


def cut(folder: Path, suffix: str) -> Path:
    """A compressed file of which the last bytes are gone."""
    text = "".join(json.dumps(row) + "\n" for row in records(400)).encode()
    path = folder / f"cut.jsonl{suffix}"
    path.parent.mkdir(parents=True)
    data = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}[suffix](text)
    path.write_bytes(data[: len(data) - (len(data) // 8 if suffix == ".gz" else 5)])
    return path


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2"])
def test_a_damaged_input_is_no_single_document(tiny_model, tmp_path, suffix):
    write_corpus(tmp_path / "in", shards=3, rows=60)
    cut(tmp_path / "in" / "cut", suffix)
    wanted = tiny_job(tiny_model, tmp_path / "in", tmp_path / "out", block_rows=64)
    answer = call("run", *flags(wanted))
    assert answer.code == 3
    said = "the rest of each such file is missing, a loss of unknown size"
    assert answer.error.startswith(f"1 input broke off for damage, and {said}; version ")
    assert "--allow-damaged-files" in answer.error
    assert "  rejected: 1 damaged_file\n" in answer.out
    assert "the rest of the file is missing" in answer.out
    assert answer.error.endswith("; LATEST names it while there is no other")

    dataset = Dataset.only(tmp_path / "out")
    (reject,) = dataset.rejects
    assert "the rest of the file is missing, a loss of unknown size" in reject["detail"]
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    (finding,) = [one for one in report["findings"] if "amage" in one["text"]]
    assert (finding["level"], "a loss of unknown size" in finding["text"]) == ("warning", True)
    page = (dataset.folder / "report" / "report.html").read_text()
    card = (dataset.folder / "README.md").read_text()
    assert "of unknown size" in page
    assert "the rest of every damaged input file, which is missing" in card
    for text in (answer.out, answer.error, page, card, json.dumps(report["findings"])):
        assert "only garbage follows" in text
        assert not re.search(r"(?<!\d)1 document\b", text)

    again = call("run", *flags(wanted), "--allow-damaged-files", "--json")
    assert (again.code, again.json["tokens_encoded"]) == (0, 0)
    assert Dataset.latest(tmp_path / "out").folder == dataset.folder


def test_a_root_that_has_published_nothing_yet_names_what_it_has(tiny_model, tmp_path):
    corpus = write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}])
    wanted = tiny_job(tiny_model, corpus, tmp_path / "out")
    version = call("run", *flags(wanted), "--json").json["version"]
    root = str(tmp_path / "out")
    told = call("info", root, "--json")
    assert (told.code, told.json["version"]) == (0, version)
    assert (told.json["complete"], told.json["published"]) == (True, False)
    for words in (["search", root, "text"], ["validate", root]):
        answer = call(*words)
        assert answer.code == 2
        assert (
            f"no version there is published; there are {version} (complete); give" in answer.error
        )
    assert call("validate", f"{root}/{version}").code == 0
    assert call("search", f"{root}/{version}", "text", "-k", "1").code == 0


@pytest.mark.parametrize("name", ["run", "plan"])
@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"inputs": ("nowhere.jsonl",)}, 2, "nowhere.jsonl: no such file"),
        ({"model": "nowhere/at-all"}, 2, "model nowhere/at-all: no such directory"),
        ({"prompt_name": "query"}, 2, "no prompt named 'query'"),
        ({"max_tokens": 100_000}, 2, "max_tokens"),
        ({"pooling": "middle"}, 2, "middle"),
        ({"chunk": "tokens", "chunk_tokens": 8, "chunk_overlap": 8}, 2, "chunk_overlap"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(job, tmp_path, name, change, code, said):
    answer = call(name, *flags(job(tmp_path / "out").model_copy(update=change)))
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.error
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_trial_is_marked_and_never_becomes_the_latest(job, tmp_path):
    whole = call("run", *flags(job(tmp_path / "out", version="v1")), "--json").json
    latest = (tmp_path / "out" / "LATEST").read_text()
    arguments = flags(job(tmp_path / "out", version="v1", limit=35))
    for _ in ("the first time", "again"):
        answer = call("run", *arguments)
        assert answer.code == 0
        lines = answer.out.splitlines()
        assert lines[0].startswith("version v1-trial-35")
        assert lines[1] == "  a trial of the first 35 documents; LATEST stays where it was"
        assert lines[2].startswith("  35 documents -> 35 rows")
        assert (tmp_path / "out" / "LATEST").read_text() == latest
    found = call("run", *arguments, "--json").json
    assert (found["trial"], found["published"], found["documents"]) == (35, False, 35)
    assert "trial" not in whole
    trial = tmp_path / "out" / "v1-trial-35"
    assert call("info", str(trial), "--json").json["trial"] == 35
    assert call("validate", str(trial)).code == 0
    assert "a trial: each of the first 35 input records" in (trial / "README.md").read_text()
    assert (
        "A trial: no more than the first 35 documents" in (trial / "report/report.html").read_text()
    )
    every = Dataset.latest(tmp_path / "out").table
    first = Dataset(trial).table
    assert first["id"].to_pylist() == sorted(every["id"].to_pylist())[:35]
    assert first.num_rows == 35 < every.num_rows


def test_a_trial_alone_leaves_the_root_without_a_latest(job, tmp_path):
    name = call("run", *flags(job(tmp_path / "out", limit=3)), "--json").json["version"]
    assert name.endswith("-trial-3")
    assert not (tmp_path / "out" / "LATEST").exists()
    whole = call("run", *flags(job(tmp_path / "out")), "--json").json
    assert (whole["documents"], whole["published"]) == (90, True)
    assert (tmp_path / "out" / "LATEST").read_text().strip() == whole["version"]


# --- plan ---


def test_plan_writes_nothing_and_comes_near(job, root, tmp_path):
    wanted = job(tmp_path / "out", split_bytes=1 << 20)
    before = files(Path(wanted.inputs[0]))
    answer = call("plan", *flags(wanted), "--json")
    assert answer.code == 0
    assert list(tmp_path.iterdir()) == []
    assert files(Path(wanted.inputs[0])) == before
    found, manifest = answer.json, Dataset.latest(root).manifest
    assert (found["files"], found["splits"], found["rows"]) == (3, 1, 90)
    assert found["tokens"] == manifest["tokens"]
    assert found["seconds"] > 0
    spoken = call("plan", *flags(wanted)).out
    assert "rows       about 90\n" in spoken
    assert f"tokens     about {manifest['tokens']:,}\n" in spoken


def test_plan_on_gpus_says_the_same_for_persons_and_programs(job, tmp_path, monkeypatch):
    here = {
        "is_available": True,
        "get_device_capability": (8, 0),
        "get_device_name": "NVIDIA A100-SXM4-80GB",
        "device_count": 3,
    }
    monkeypatch.setattr(hardware, "_GPU_DEVICES", (os.devnull,))
    for name, value in here.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    arguments = [*flags(job(tmp_path / "out", engine="local")), "--device", "cuda"]
    gpu = call("plan", *arguments, "--json").json["gpu"]
    assert (gpu["name"], gpu["gpus"]) == ("NVIDIA A100-SXM4-80GB", 3)
    assert gpu["cores_per_gpu"] > 0
    spoken = call("plan", *arguments).out
    assert "gpu        3 x NVIDIA A100-SXM4-80GB, about " in spoken
    each = float(f"{gpu['cores_per_gpu']:.2g}")
    cores = f"about {each:g} per GPU to read, tokenize and write, "
    assert f"cores      {cores}{gpu['cores']} here: " in spoken


def test_plan_needs_no_output(job, tmp_path):
    arguments = flags(job(tmp_path / "out"))
    place = arguments.index("--output")
    del arguments[place : place + 2]
    assert call("plan", *arguments).code == 0
    answer = call("run", *arguments)
    assert (answer.code, answer.error) == (
        2,
        "the command line: output is missing, give --output",
    )


# --- info, search, validate ---


def test_info(root):
    version = Dataset.latest(root)
    for place in (str(root), str(version.folder)):
        found = call("info", place, "--json").json
        assert (found["version"], found["complete"]) == (version.folder.name, True)
        assert (found["rows"], found["documents"], found["parts"]) == (90, 90, len(version.parts))
        assert (found["dimension"], found["metric"]) == (32, "cosine")
    lines = call("info", str(root)).out.splitlines()
    assert lines[0].split() == ["version", version.folder.name]
    assert ["rows", "90"] in [line.split() for line in lines]


def test_search(root):
    text = Dataset.latest(root).table["text"][17].as_py()
    best, *others = call("search", str(root), text, "-k", "3", "--json").json
    assert (best["id"], best["text"]) == ("doc-00017", text)
    assert best["score"] == pytest.approx(1, abs=1e-6)
    assert best["metadata"] == {"stars": 17 % 5}
    assert len(others) == 2
    lines = call("search", str(root), text, "-k", "3").out.splitlines()
    assert lines[0].startswith("  1  1.0000  doc-00017  (shard-0.jsonl, line 18)")
    assert lines[1].strip() == text


@pytest.mark.parametrize("name", ["info", "validate", "search"])
def test_a_place_without_a_dataset(name, tmp_path):
    answer = call(name, str(tmp_path / "nothing"), *(["x"] if name == "search" else []))
    assert (answer.code, answer.out) == (2, "")
    assert answer.error.startswith(f"{tmp_path}/nothing: neither a version nor a root")


def test_validate(root):
    answer = call("validate", str(root))
    assert answer.code == 0
    assert "90 rows" in one_line(answer.out)
    found = call("validate", str(root), "--json").json
    assert (found["ok"], found["problems"], found["rows"]) == (True, [], 90)


def test_validate_names_a_damaged_part_and_exits_with_4(job, tmp_path):
    call("run", *flags(job(tmp_path / "out")))
    dataset = Dataset.latest(tmp_path / "out")
    part = dataset.parts[1]
    part.chmod(0o644)
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(bytes(data))
    answer = call("validate", str(tmp_path / "out"))
    assert answer.code == 4
    assert answer.out.splitlines()[1].startswith(f"{part}: ")
    answer = call("validate", str(tmp_path / "out"), "--json")
    assert answer.code == 4
    assert not answer.json["ok"]
    assert str(part) in answer.json["problems"][0]


# --- the command line itself ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "No such command 'fly'; see 'embedkit --help'"),
        (["run", "--modle", "m"], "No such option: --modle"),
        (["run", "--block-rows", "many"], "Invalid value for '--block-rows'"),
        (["run", "--chunk", "words"], "Invalid value for '--chunk': 'words' is not one of 'none'"),
        (["serch", "x"], "No such command 'serch' (did you mean 'search'?); see"),
        (["search", "somewhere"], "Missing argument 'text'; see 'embedkit search --help'"),
        (["search", "somewhere", "x", "-k", "0"], "Invalid value for '-k'"),
        (["info"], "Missing argument 'root'; see 'embedkit info --help'"),
    ],
)
def test_a_wrong_command_line(arguments, said):
    done = run_process(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    line = one_line(done.stderr)
    assert line.lower().startswith(f"embedkit: {said}".lower())
    assert re.search(r"; see 'embedkit[a-z ]* --help'$", line)


def test_version_and_help_by_their_short_names_and_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "embedkit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"embedkit {embedkit.__version__}\n"
    assert call("--version").out == done.stdout
    for name in ([], ["run"], ["search"]):
        assert call(*name, "-h").out == call(*name, "--help").out != ""


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("embedkit val", ["validate"]),
        ("embedkit run --chunk-t", ["--chunk-tokens"]),
        ("embedkit run --chunk s", ["sentences", "stable-sentences", "stable-paragraphs"]),
        ("embedkit plan --log", []),
    ],
)
def test_a_shell_completes(line, completed):
    """What the script that `--install-completion` installs asks, as bash asks it."""
    environment = {
        "_EMBEDKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    done = subprocess.run(
        embedkit_command(), env=os.environ | environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, completed, "")


def test_help_loads_nothing_heavy():
    """A second of torch or Beam is what makes a command line slow to answer."""
    heavy = "torch transformers tokenizers pyarrow numpy apache_beam ray openvino fsspec".split()
    code = (
        "import sys\n"
        "from embedkit.cli.app import app\n"
        "for name in ['', 'run', 'plan', 'info', 'search', 'validate', 'init', 'schema']:\n"
        "    app([*name.split(), '--help'], standalone_mode=False)\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.count("Usage: ") == 8
    assert done.stdout.count("Exit codes: 0 ") == 7


# --- real processes ---


def test_a_run_by_beam_and_ray_speaks_json_alone_and_a_second_does_nothing(job, root, tmp_path):
    arguments = flags(job(tmp_path / "out", engine="local"))
    done = run_process("run", *arguments, "--json", "--log-format", "json", timeout=280)
    assert done.returncode == 0, done.stderr
    assert list(json.loads(one_line(done.stdout))) == PROMISED
    log = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"] for line in log if line["level"] != "info"] == []
    assert "splits to do, 0 rows committed before" in log[0]["message"]
    assert [line["message"] for line in log if line["message"] in PHASES] == PHASES
    assert [line for line in log if "progress" in line][-1]["progress"]["documents"] == 90
    assert Dataset.latest(tmp_path / "out").part_hashes == Dataset.latest(root).part_hashes
    before = files(tmp_path / "out")
    done = run_process("run", *arguments, "--log-format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "is complete already, nothing to encode" in done.stdout
    assert files(tmp_path / "out") == before


def test_exit_code_2(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("inputs: a.jsonl\nmodel: m\noutput: o\nblock_rows: none\n")
    done = run_process("run", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert one_line(done.stderr).startswith(f"embedkit: {file}: block_rows = 'none': input should")


def test_exit_code_3_and_the_result_all_the_same(tiny_model, tmp_path):
    wanted = tiny_job(tiny_model, bad_corpus(tmp_path), tmp_path / "out", id_column="id")
    done = run_process("run", *flags(wanted), "--json", "--log-format", "json")
    assert done.returncode == 3
    assert json.loads(one_line(done.stdout))["rejects"] == 4
    assert last_error(done.stderr).startswith("4 of 10 documents were rejected, more than")


class Terminal:
    """A pseudo-terminal with a command in its foreground."""

    def __init__(self, *arguments: str, columns: int = 100) -> None:
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def take_the_terminal() -> None:
            fcntl.ioctl(follower, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [*embedkit_command(), *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=take_the_terminal,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TERM": "xterm"},
        )
        os.close(follower)
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A terminal that nobody has open any more is an error to read.
        try:
            while data := os.read(self.leader, 65_536):
                self._output.extend(data)
        except OSError:
            return

    @property
    def lines(self) -> list[str]:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._output.decode(errors="replace"))
        return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]

    def press(self, keys: bytes) -> None:
        os.write(self.leader, keys)

    def end(self) -> int:
        code = self.process.wait(120)
        self._reader.join(30)
        os.close(self.leader)
        return code


@pytest.mark.soak
def test_control_c_on_a_terminal_ends_all_and_the_next_run_resumes(job, root, tmp_path):
    """The terminal sends it to every process of its foreground group, Ray's among them."""
    output = tmp_path / "out"
    settings = {"block_rows": 1, "split_bytes": 1 << 20, "call_tokens": 64}
    terminal = Terminal("run", *flags(job(output, engine="local", **settings)))
    wait_for_commits(output, 3, terminal.process)
    wait_until(lambda: any(" docs  " in line for line in terminal.lines), terminal.process)
    started = family(terminal.process)
    assert any("raylet" in command(one) for one in started)
    terminal.press(b"\x03")
    assert terminal.end() == 4
    assert terminal.lines[-1] == (
        "embedkit: stopped by SIGINT; run the same command again to resume from what is committed"
    )
    assert not [line for line in terminal.lines if "Traceback" in line or "Error" in line]
    wait_until(lambda: not any(map(alive, started)))
    assert not (output / "LATEST").exists()
    answer = call("run", *flags(job(output, **settings)), "--json")
    assert answer.code == 0
    assert 0 < answer.json["rows_resumed"] < 90
    dataset = Dataset.latest(output)
    dataset.check_accounts(90)
    whole = Dataset.latest(root).table
    # In other ranges lines begin elsewhere.
    others = ["embedding", "line_in_range"]
    assert dataset.table.drop(others).equals(whole.drop(others))
    # Other blocks are padded otherwise.
    vectors, expected = (np.array(one["embedding"].to_pylist()) for one in (dataset.table, whole))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


def test_on_a_terminal_a_run_draws_a_bar_and_ends_it(job, tmp_path):
    terminal = Terminal("run", *flags(job(tmp_path / "out")), columns=100)
    assert terminal.end() == 0
    bars = [line for line in terminal.lines if "━" in line]
    assert bars[-1].rstrip().endswith("left")
    assert re.search(r" 100% 90/90 docs  [\d,]+ tokens/s  encoders \d+% busy  0:00 left$", bars[-1])
    assert max(map(len, bars)) <= 100
    last = max(place for place, line in enumerate(terminal.lines) if line == bars[-1])
    assert terminal.lines[last + 1].startswith("version v")
