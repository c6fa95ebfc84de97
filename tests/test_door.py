"""What a user imports from embedkit itself, and what that does not load."""

import ast
import importlib
import json
import logging
import pkgutil
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import embedkit

NAMES = [name for name in embedkit.__all__ if name != "__version__"]

LOADED = """
import json, sys, time
started = time.perf_counter()
import embedkit
took = time.perf_counter() - started
dir(embedkit)
embedkit.__version__
print(json.dumps([took, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_importing_it_is_quick_and_loads_nothing_heavy():
    runs = [
        subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    found = [json.loads(run.stdout) for run in runs]
    for _, loaded in found:
        assert "embedkit" in loaded
        assert {"apache_beam", "ray", "torch", "pyarrow"}.isdisjoint(loaded)
        # Nor what takes a while besides.
        assert {"numpy", "pydantic", "transformers", "fsspec"}.isdisjoint(loaded)
    assert min(took for took, _ in found) < 0.2


def test_dir_and_help_show_every_name():
    assert set(embedkit.__all__) <= set(dir(embedkit))
    text = pydoc.plain(pydoc.render_doc(embedkit))
    for name in NAMES:
        assert name in text, name
    assert embedkit.__version__ in text


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_its_home_has(name):
    value = getattr(embedkit, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__module__.startswith("embedkit.")
    # Found once, it is an attribute like any other.
    assert vars(embedkit)[name] is value
    assert (value.__doc__ or "").strip()


def test_a_name_that_it_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'embedkit' has no attribute 'run_jobs'"):
        embedkit.run_jobs  # noqa: B018
    with pytest.raises(ImportError, match="run_jobs"):
        exec("from embedkit import run_jobs")
    assert not hasattr(embedkit, "run_jobs")


def test_no_name_is_one_of_a_package_which_would_take_its_place():
    inside = {module.name for module in pkgutil.iter_modules(embedkit.__path__)}
    assert {"search", "config", "flow"} <= inside
    assert inside.isdisjoint(embedkit.__all__)


def test_type_checkers_are_told_the_same_names_and_homes():
    stub = ast.parse(Path(embedkit.__file__).with_suffix(".pyi").read_text())
    told = {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    homes = {name: (f"embedkit.{embedkit._HOME_OF[name]}", name) for name in NAMES}
    assert told == homes
    assert (Path(embedkit.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("site-packages/apache_beam/io/gcp/internal/clients/bigquery/__init__.py", False),
        ("site-packages/apache_beam/yaml/yaml_ml.py", False),
        ("site-packages/apache_beam/pipeline.py", True),
        ("nightly/clients/bigquery.py", True),
        ("nightly/yaml/yaml_ml_jobs.py", True),
    ],
)
def test_beams_notices_of_what_is_not_needed_are_left_out_and_a_programs_own_lines_are_not(
    path, shown
):
    root = logging.getLogger()
    record = root.makeRecord("root", logging.WARNING, path, 1, "not found", (), None)
    assert bool(root.filter(record)) is shown
