"""The commonest mistakes with a command line: one line with its remedy for each, no traceback."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import one_line, records, write_jsonl

from embedkit.cli.app import command_line
from embedkit.errors import EmbedkitError

pytestmark = pytest.mark.usefixtures("logging_restored")

RUN = ("run", "IN", "--model", "MODEL", "--pooling", "mean", "--engine", "plain", "--output", "OUT")
PLAN = ("plan", "IN", "--model", "MODEL", "--pooling", "mean")

MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    # the command line itself
    "unknown command": (("embed",), "No such command"),
    "misspelt flag": ((*RUN, "--modle", "x"), "--modle"),
    "word for a number": ((*RUN, "--block-rows", "many"), "--block-rows"),
    "zero": ((*RUN, "--block-rows", "0"), "block_rows"),
    "negative": ((*RUN, "--split-bytes", "-1"), "split_bytes"),
    "unknown choice": ((*RUN, "--engine", "spark"), "--engine"),
    "share above one": ((*RUN, "--max-reject-share", "2"), "max_reject_share"),
    "no input": (RUN[:1] + RUN[2:], "inputs"),
    "no model": (("plan", "IN"), "model"),
    "no output": (RUN[:-2], "output"),
    "overlap of all": (
        (*PLAN, "--chunk", "tokens", "--chunk-tokens", "8", "--chunk-overlap", "8"),
        "chunk_overlap",
    ),
    "late chunking of a training": (
        ("train", "word2vec", "IN", "--output", "OUT", "--late-chunking"),
        "--late-chunking",
    ),
    "version with a slash": ((*RUN, "--version", "a/b"), "version"),
    "no query": (("search", "OUT"), "text"),
    "no results": (("search", "OUT", "x", "-k", "0"), "-k"),
    # job files
    "job file missing": (("run", "DIR/none.yaml"), "no such job file"),
    "job file of a list": (("run", "DIR/list.yaml"), "holds a list"),
    "job file broken": (("run", "DIR/broken.yaml"), "YAML"),
    "job file binary": (("run", "DIR/binary.yaml"), "binary.yaml"),
    "job file a folder": (("run", "DIR/folder.yaml"), "folder.yaml"),
    "job file with an unknown key": (("run", "DIR/unknown.yaml"), "did you mean model"),
    # inputs
    "input missing": ((PLAN[0], "DIR/none.jsonl", *PLAN[2:]), "none.jsonl"),
    "glob without a match": ((PLAN[0], "DIR/none*.jsonl", *PLAN[2:]), "none*.jsonl"),
    "empty folder": ((PLAN[0], "DIR/folder.yaml/", *PLAN[2:]), "folder.yaml"),
    "folder of pictures": ((PLAN[0], "DIR/pictures", *PLAN[2:]), "pictures"),
    "picture": ((PLAN[0], "DIR/pictures/a.png", *PLAN[2:]), "a.png"),
    "no Parquet": ((PLAN[0], "DIR/no.parquet", *PLAN[2:]), "no.parquet"),
    "unknown scheme": ((PLAN[0], "s4://bucket/a.jsonl", *PLAN[2:]), "s4"),
    "misspelt text column": ((*RUN, "--text-column", "txet"), "txet"),
    "misspelt id column": ((*RUN, "--id-column", "di"), "di"),
    "misspelt metadata column": ((*RUN, "--metadata-columns", "starz"), "starz"),
    "template of an unknown column": ((*RUN, "--text-template", "{titel} {text}"), "titel"),
    # models
    "model missing": ((*PLAN, "--model", "DIR/none"), "no such directory"),
    "model an empty folder": ((*PLAN, "--model", "DIR/folder.yaml"), "folder.yaml"),
    "model a file": ((*PLAN, "--model", "IN"), "in.jsonl"),
    "misspelt hub id": ((*PLAN, "--model", "nobody/all-MiniLM-L6-v2x"), "all-MiniLM-L6-v2x"),
    "no pooling": (("plan", "IN", "--model", "MODEL"), "pooling"),
    "two prompts": ((*PLAN, "--prompt", "x", "--prompt-name", "query"), "take one of them"),
    "unknown prompt": ((*PLAN, "--prompt-name", "query"), "query"),
    "more tokens than the model sees": ((*PLAN, "--max-tokens", "100000"), "max_tokens"),
    "more dimensions than it has": ((*PLAN, "--dimensions", "4096"), "dimensions"),
    # outputs
    "output a file": ((*RUN[:-1], "IN"), "in.jsonl"),
    "output not writable": ((*RUN[:-1], "/proc/out"), "/proc/out"),
    "output of an unknown scheme": ((*RUN[:-1], "s4://bucket/out"), "s4"),
    "output empty": ((*RUN[:-1], ""), "no place for a dataset"),
    "info of nothing": (("info", "DIR/none"), "none"),
    "validate a file": (("validate", "IN"), "in.jsonl"),
    "search in nothing": (("search", "DIR/folder.yaml", "x"), "folder.yaml"),
    "search for nothing": (("search", "DIR/none", " "), "empty"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    write_jsonl(folder / "in.jsonl", records(5))
    (folder / "list.yaml").write_text("- a\n- b\n")
    (folder / "broken.yaml").write_text("model: [unclosed\n")
    (folder / "binary.yaml").write_bytes(gzip.compress(b"model: m"))
    (folder / "unknown.yaml").write_text("modle: m\ninputs: a\noutput: o\n")
    (folder / "folder.yaml").mkdir()
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (folder / "no.parquet").write_text("a,b\n1,2\n")
    return folder


@pytest.fixture
def command(monkeypatch, place, tmp_path, tiny_model) -> Callable[..., EmbedkitError]:
    """Runs a command line that is to fail, and returns what it ends with."""
    places = {"IN": f"{place}/in.jsonl", "MODEL": tiny_model, "OUT": f"{tmp_path}/out"}

    def fail(*arguments: str) -> EmbedkitError:
        filled = [places.get(one, one.replace("DIR", str(place))) for one in arguments]
        monkeypatch.setattr(sys, "argv", ["embedkit", *filled])
        with pytest.raises(EmbedkitError) as raised:
            command_line()
        return raised.value

    return fail


@pytest.mark.parametrize(("arguments", "named"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_that_names_it(command, tmp_path, capsys, arguments, named):
    error = command(*arguments)
    assert error.exit_code == 2
    line = one_line(str(error))
    assert named.lower() in line.lower()
    assert 10 < len(line) < 600
    assert json.dumps(line).count("\\u001b") == 0
    assert "same command again" not in line
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
