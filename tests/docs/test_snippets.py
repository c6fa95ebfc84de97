"""The snippets of the README and of the manual run, page by page, in a folder of their own.

A page's snippets run one after the other, as somebody would type them. Those that a comment marks
as checked need what no test has, such as a cluster: they are read, see `test_names`.
"""

import contextlib
import glob
import io
import logging
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import StandardOptions
from calling import call
from manual import PAGES, ROOT, Snippet, commands, snippets
from running import Dataset

_RUN = ("sh", "python", "yaml")
_ENGINES = ("run", "rerank")
_EXIT = re.compile(r"# .*exits with (\d)")
_OF_PIPELINES = ("docs/beam.md", "docs/ray.md")
"""Pages whose Python starts Beam or Ray: the tests below run it, and look at what comes of it."""

_IN_CI = {
    "docs/extending.md",
    "docs/format.md",
    "docs/index.md",
    "docs/indexes.md",
    "docs/pairs.md",
    "docs/reading.md",
    "docs/report.md",
    "docs/versions.md",
}
"""Pages that take a few seconds together; the soak runs the others, which run more jobs."""

_SAID = {
    "docs/format.md": ("38 38 0 0", "[(38, 38, 8, 95)]", "(38, 8) float32"),
    "docs/notebooks.md": ("2 model nowhere", "(38, 8)", "{1: 'empty_text'}", "3"),
    "docs/vectors.md": ("(38, 8)",),
    "docs/extending.md": ("Short(rows=6, short=3)",),
}
"""What the Python of a page says."""


def runnable(path: Path) -> list[Snippet]:
    found = snippets(path.read_text(), path.relative_to(ROOT).as_posix())
    languages = ("sh", "yaml") if found and found[0].page in _OF_PIPELINES else _RUN
    return [one for one in found if one.is_run and one.language in languages]


RUN = {found[0].page: found for path in PAGES if (found := runnable(path))}


@pytest.fixture
def here(playground, tmp_path, monkeypatch) -> Path:
    """A copy of the folder for one page, as the working directory."""
    folder = Path(shutil.copytree(playground, tmp_path / "here"))
    monkeypatch.chdir(folder)
    # What a pipeline without a runner takes, without its look for another one online.
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", runner)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    return folder


def run_python(code: str, **names: Any) -> str:
    """Runs a snippet as a program of its own, and returns what it prints."""
    said = io.StringIO()
    names["__name__"] = "__main__"
    with contextlib.redirect_stdout(said):
        exec(compile(code, "snippet", "exec"), names)
    return said.getvalue()


def run_commands(snippet: Snippet) -> None:
    """Calls the commands of a snippet that are embedkit's; the others are for a reader to see."""
    for line in commands(snippet.code):
        words = shlex.split(line, comments=True)
        if words[0] != "embedkit":
            continue
        expected = _EXIT.search(line)
        arguments, file = words[1:], None
        if ">" in arguments:
            *arguments, _, file = arguments
        arguments = [path for word in arguments for path in (sorted(glob.glob(word)) or [word])]
        if arguments[0] in _ENGINES and "--engine" not in arguments:
            # The others give the same bytes, and take a minute.
            arguments += ["--engine", "plain"]
        answer = call(*arguments)
        assert answer.code == int(expected[1] if expected else 0), (str(snippet), line, answer)
        if file is not None:
            Path(file).write_text(answer.out)


def run_snippet(snippet: Snippet) -> str:
    """Runs a snippet, and returns what a program of Python says."""
    if snippet.language == "sh":
        run_commands(snippet)
    elif snippet.language == "python":
        return run_python(snippet.code)
    elif name := re.match(r"# ([\w-]+\.yaml)\n", snippet.code):
        Path(name[1]).write_text(snippet.code)
    return ""


@pytest.mark.parametrize(
    "page",
    [page if page in _IN_CI else pytest.param(page, marks=pytest.mark.soak) for page in RUN],
)
def test_a_page_runs_from_top_to_bottom(page, here, monkeypatch):
    # Half of what a run of a few rows takes; other tests look at it.
    page_of_a_report = "<!doctype html>\n</html>\n"
    monkeypatch.setattr("embedkit.flow.page.render_html", lambda report, **_: page_of_a_report)
    said = ""
    for snippet in RUN[page]:
        try:
            said += run_snippet(snippet)
        except Exception as error:
            error.add_note(f"in {snippet}")
            raise
    assert [words for words in _SAID.get(page, ()) if words not in said] == []


PIPELINES = [
    one.code
    for page in _OF_PIPELINES
    for one in snippets((ROOT / page).read_text(), page)
    if one.language == "python"
]


def only(word: str) -> str:
    (found,) = [code for code in PIPELINES if word in code]
    return found


def test_every_pipeline_is_run_by_a_test_below():
    words = {"EmbedBatches", "EmbedCorpus", "EmbedExamples", "MLTransform", "RayBeamRunner"}
    assert set(PIPELINES) == set(map(only, words))


def test_a_pipeline_of_ones_own_leaves_complete_versions(here):
    run_python(only("EmbedCorpus"))
    found = {name: Dataset.latest(here / name).table for name in ("rows", "files", "cleaned")}
    assert [len(table) for table in found.values()] == [1, 3, 3]
    assert found["rows"]["stars"].to_pylist() == [5]
    assert found["files"]["embedding"].equals(found["cleaned"]["embedding"])


def test_any_pipeline_runs_on_ray(ray_session, here):
    def note(counted: tuple[str, int]) -> None:
        # What a worker prints is not heard here.
        with (here / "said").open("a") as file:
            file.write(f"{counted}\n")

    run_python(only("RayBeamRunner"), print=note)
    said = (here / "said").read_text().splitlines()
    assert sorted(said) == ["('corpus', 2)", "('vectors', 1)"]


def test_rows_of_a_standing_pipeline_get_vectors_or_reasons(here):
    said = run_python(only("MLTransform"))
    assert sorted(said.splitlines()) == [
        "a (8,)",
        "b empty_text",
        "b text: empty_text: the text is empty; leave the record out",
    ]


def test_a_dataset_of_ray_data_is_parted(ray_session, here):
    assert "3 0" in run_python(only("EmbedBatches"))


def test_a_dataset_of_hugging_face_is_parted(here, monkeypatch, tmp_path):
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert "List(Value('float32'), length=8) 3 0" in run_python(only("EmbedExamples"))
