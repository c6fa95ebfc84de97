"""The examples in docstrings, run as a reader would type them."""

import doctest
import importlib
import logging
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import StandardOptions
from example_files import lay_out

import embedkit

PACKAGE = Path(embedkit.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("examples")
    lay_out(made)
    return made


def test_the_door_and_what_lies_behind_it_have_examples():
    assert {"embedkit", "embedkit.search.reader"} <= set(MODULES)


# What it says is run as part of the manual as well.
_SLOW = {"embedkit.actors.map_batches"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.soak) if name in _SLOW else name for name in MODULES],
)
def test_examples_say_what_happens(name, folder, monkeypatch, request):
    if name.startswith("embedkit.actors"):
        request.getfixturevalue("ray_session")
    monkeypatch.chdir(folder)
    # What a pipeline without a runner takes, without its look for another one online.
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    monkeypatch.setattr(StandardOptions, "DEFAULT_RUNNER", runner)
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    module = importlib.import_module(name)
    said: list[str] = []
    runs = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}):
        runs.run(test, out=said.append)
    assert runs.tries > 0
    assert not said, "".join(said)
