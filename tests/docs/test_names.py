"""What pages name is there: flags, settings, commands, figures, files, links."""

import importlib
import importlib.util
import re
import shlex
import tomllib
from functools import cache
from typing import Any

import pytest
import typer
import yaml
from manual import DOCS, PAGES, ROOT, anchors, commands, links, snippets, spans

from embedkit import __version__
from embedkit.cli.app import COMMANDS, app, command_of
from embedkit.cli.options import EVALUATION
from embedkit.config import EvaluationConfig, JobConfig
from embedkit.engines.dataflow_flags import parse
from pipelines.figures_page import figures_page
from pipelines.settings_page import settings_page

TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PAGES}
SNIPPETS = [one for page, text in TEXTS.items() for one in snippets(text, page)]
OF_LANGUAGE = {
    language: [one for one in SNIPPETS if one.language == language]
    for language in ("sh", "python", "yaml")
}
FOREIGN = {
    "cd", "docker", "export", "gcloud", "git", "helm", "kubectl", "mkdir", "pip", "psql", "ray",
}  # fmt: skip
"""Programs of others, whose flags nobody here knows."""

_USAGE_ERROR: Any = typer.BadParameter.__base__

NOT_INSTALLED = {"airflow", "dagster"}
"""Packages that snippets import and nothing here needs."""


@cache
def command_line() -> Any:
    return typer.main.get_command(app)


def options_of(command: Any) -> set[str]:
    found = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}
    for inner in getattr(command, "commands", {}).values():
        found |= options_of(inner)
    return found


@cache
def every_flag() -> set[str]:
    """All flags that a page may name: the commands', and those that Beam and typer bring."""
    settings = {f"--{name.replace('_', '-')}" for name in JobConfig.model_fields}
    of_dataflow = re.findall(r'"name": "(\w+)"', _read("embedkit/engines/dataflow_metadata.json"))
    beams = {"--write_metadata", "--provider", "--accelerator", "--min-ram", "--temp-location"}
    others = {"--help", "--install-completion", "--version"}
    return (
        {option for name in COMMANDS for option in options_of(command_of(name))}
        | settings
        | beams
        | others
        | {f"--{name}" for name in of_dataflow}
    )


@cache
def every_word() -> set[str]:
    """Whatever is a word of this repository's code and manifests."""
    files = [
        path
        for folder in ("embedkit", "pipelines", "k8s", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".yaml", ".json", ".jinja", ".js")
        and path.relative_to(ROOT).parts[:2] != ("tests", "docs")
        and "fixtures" not in path.parts
    ]
    return {word for path in files for word in re.findall(r"\w+", path.read_text())}


def _read(path: str) -> str:
    return (ROOT / path).read_text()


def unknown_flags(text: str) -> list[str]:
    """Flags in a page's sentences and tables that nothing here has."""
    named = {
        flag
        for span in spans(text)
        if span.split()[0] not in FOREIGN
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*[a-z]", span)
    }
    yes = {flag.replace("--no-", "--", 1) for flag in named - every_flag()}
    return sorted(yes - every_flag())


def unknown_names(text: str) -> list[str]:
    """Names of several words, as settings and figures have them, that the code does not know."""
    named = {
        name
        for span in spans(text)
        for name in re.findall(r"(?<![\w/.-])[a-z]+(?:_[a-z0-9]+)+\b", span)
        # Metrics of Kubernetes' own.
        if not name.startswith("kube_")
    }
    return sorted(named - every_word())


def unknown_keys(code: str) -> list[str]:
    """Keys of a job file that no job has."""
    job = yaml.safe_load(code)
    section = job.get(EVALUATION) or {}
    return sorted(
        {*job} - {*JobConfig.model_fields, EVALUATION}
        | {*section} - {*EvaluationConfig.model_fields}
    )


def is_job(code: str) -> bool:
    """Whether a snippet of YAML is a job file, and not a manifest, a list or a pipeline."""
    value = yaml.safe_load(code)
    return isinstance(value, dict) and not {"apiVersion", "pipeline", "providers", "on"} & {*value}


@pytest.mark.parametrize("page", TEXTS)
def test_flags_and_names_in_sentences_are_there(page):
    assert unknown_flags(TEXTS[page]) == []
    assert unknown_names(TEXTS[page]) == []


def test_a_flag_or_a_name_that_is_not_there_is_found():
    text = "`--store-txt`, `--no-store-text`, `store_txt`, `store_text`\n```sh\nx --y\n```\n"
    assert unknown_flags(text) == ["--store-txt"]
    assert unknown_names(text) == ["store_txt"]
    assert unknown_keys("inputs: a\nmodle: b\nevaluation: {strs: c}") == ["modle", "strs"]


def test_every_block_says_what_it_is():
    languages = {"sh", "python", "yaml", "text"}
    assert [str(one) for one in SNIPPETS if one.language not in languages] == []
    # Within lists the site and GitHub read them differently.
    assert [page for page, text in TEXTS.items() if re.search("^ +```", text, re.MULTILINE)] == []
    notes = {one.note[0] for one in SNIPPETS if one.note}
    assert notes == {"checked"}


@pytest.mark.parametrize("snippet", OF_LANGUAGE["sh"], ids=str)
def test_commands_are_ones_that_their_programs_take(snippet):
    for line in commands(snippet.code):
        check_command(shlex.split(line, comments=True))


def check_command(words: list[str]) -> None:
    """Raises an error where a command names a program, a flag or a target that is not there."""
    words = words[: words.index(">")] if ">" in words else words
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program, *arguments = words
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", _read("Makefile"), re.MULTILINE))
        assert targets.issuperset(one for one in arguments if "=" not in one), words
    elif program == "pip":
        check_extras(words)
    elif program.endswith("embedkit"):
        check_embedkit(arguments)
    elif program == "python":
        assert arguments[0] == "-m" and importlib.util.find_spec(arguments[1]), words
    else:
        assert program in FOREIGN, words


def check_extras(words: list[str]) -> None:
    extras = tomllib.loads(_read("pyproject.toml"))["project"]["optional-dependencies"]
    for word in words:
        named = re.search(r"\[([\w,]+)\]", word)
        assert named is None or extras.keys() >= set(named[1].split(",")), words


def check_embedkit(arguments: list[str]) -> None:
    if arguments[:1] == ["--install-completion"]:
        return
    command, name = command_line(), "embedkit"
    while hasattr(command, "resolve_command"):
        context = command.context_class(command, info_name=name)
        name, command, arguments = command.resolve_command(context, arguments)
    if name == "dataflow" and "--write_metadata" not in arguments:
        parse(arguments)
    command.make_context(name, list(arguments))


def test_every_command_has_its_line():
    (table,) = re.findall(r"^\| command .*?\n\n", TEXTS["docs/command-line.md"], re.M | re.S)
    said = [line.split("|")[1] for line in table.strip().splitlines()]
    assert set(COMMANDS) == set(re.findall(r"`([a-z-]+)`", " ".join(said)))


@pytest.mark.parametrize(
    "wrong",
    ["embedkit run a --modle b", "embedkit rnu a", "make tset", "pip install '.[s4]'", "rsync a b"],
)
def test_a_command_that_is_none_is_found(wrong):
    with pytest.raises((_USAGE_ERROR, AssertionError)):
        check_command(shlex.split(wrong))


@pytest.mark.parametrize("snippet", OF_LANGUAGE["yaml"], ids=str)
def test_yaml_is_yaml_and_keys_of_a_job_are_settings(snippet):
    assert list(yaml.safe_load_all(snippet.code))
    if is_job(snippet.code):
        assert unknown_keys(snippet.code) == []


@pytest.mark.parametrize("snippet", OF_LANGUAGE["python"], ids=str)
def test_python_compiles_and_what_it_imports_is_there(snippet):
    import ast

    for node in ast.walk(ast.parse(snippet.code)):
        if isinstance(node, ast.Import):
            names = [(one.name, ()) for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(str(node.module), [one.name for one in node.names])]
        else:
            continue
        for module, members in names:
            if module.partition(".")[0] in NOT_INSTALLED:
                assert not snippet.is_run
                continue
            assert importlib.util.find_spec(module) is not None, module
            if module.startswith("embedkit"):
                found = importlib.import_module(module)
                assert [one for one in members if not hasattr(found, one)] == []


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    broken = [link for link in links(TEXTS[page]) if not leads(page, link)]
    assert broken == []


def leads(page: str, link: str) -> bool:
    if re.match("https?://", link):
        return True
    place, _, anchor = link.partition("#")
    target = (ROOT / page).parent / place if place else ROOT / page
    if not target.resolve().is_relative_to(ROOT) or not target.exists():
        return False
    # The site has what is in docs/ alone.
    if page.startswith("docs/") and not target.resolve().is_relative_to(DOCS):
        return False
    return not anchor or anchor in anchors(target.read_text())


@pytest.mark.parametrize("link", ["nowhere.md", "#nothing", "../README.md", "inputs.md#nothing"])
def test_a_link_that_leads_nowhere_is_found(link):
    assert not leads("docs/index.md", link)


def test_files_that_pages_name_are_there():
    named = {
        (page, path)
        for page, text in TEXTS.items()
        for span in spans(text)
        for path in re.findall(r"^(?:embedkit|tests|pipelines|k8s|docs)/[\w./-]*$", span)
    }
    assert sorted((page, path) for page, path in named if not (ROOT / path).exists()) == []


def test_images_and_wheels_that_pages_name_are_of_this_release():
    named = {
        (page, version)
        for page, text in TEXTS.items()
        for version in re.findall(r"(?:embedkit_batch-|/ray:|newTag: )(\d+\.\d+\.\d+)", text)
    }
    assert {page for page, _ in named} >= {"README.md", "docs/kubernetes.md", "docs/schedulers.md"}
    assert {version for _, version in named} == {__version__}


def test_the_page_of_settings_is_what_the_settings_say():
    assert TEXTS["docs/settings.md"] == settings_page(), "run make docs"


def test_the_page_of_figures_is_what_the_figures_say():
    assert TEXTS["docs/figures.md"] == figures_page(), "run make docs"


def test_readme_stays_what_one_reads_first():
    assert len(TEXTS["README.md"].splitlines()) <= 200
