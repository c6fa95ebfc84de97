"""The Dockerfile against hadolint, and the versions of images, manifests and constraints as one."""

import re
import subprocess
import tomllib
from pathlib import Path

from manifests import K8S, Document, pods, tool
from packaging.specifiers import SpecifierSet

import embedkit

ROOT = K8S.parent
DOCKERFILE = K8S / "images" / "Dockerfile"


def key_values(path: Path, separator: str) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(separator, 1) for line in lines)


VERSIONS = key_values(K8S / "versions.env", "=")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [tool("hadolint"), "--failure-threshold", "style", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_hadolint_finds_nothing() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_a_bad_line(tmp_path: Path) -> None:
    good = DOCKERFILE.read_text()
    bad = tmp_path / "Dockerfile"
    bad.write_text(good.replace("USER 10001:10001", "USER root"))
    done = hadolint(bad)
    assert done.returncode != 0
    assert "DL3002" in done.stdout


def test_versions_are_those_of_the_constraints_and_the_project() -> None:
    pinned = key_values(ROOT / "constraints.txt", "==")
    assert VERSIONS["RAY_VERSION"] == pinned["ray"]
    assert VERSIONS["BEAM_VERSION"] == pinned["apache-beam"]
    assert VERSIONS["EMBEDKIT_VERSION"] == embedkit.__version__
    assert VERSIONS["PYTHON_VERSION"] in SpecifierSet(PROJECT["requires-python"])


def test_the_dockerfile_writes_no_version_of_its_own() -> None:
    text = DOCKERFILE.read_text()
    for name in ("PYTHON_VERSION", "RAY_VERSION", "BEAM_VERSION", "EMBEDKIT_VERSION"):
        assert re.search(rf"^ARG {name}$", text, re.MULTILINE), name
        assert VERSIONS[name] not in text
    extras = re.search(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_what_the_dockerfile_copies_reaches_the_builder() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (K8S / "images" / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copies for source in line.split()}
    assert {source.split("/")[0] for source in sources} == let_through
    assert all((ROOT / source).exists() for source in sources)


def test_jobs_that_manifests_start_are_in_the_images_and_not_in_the_wheel(
    rendered: dict[str, tuple[Document, ...]],
) -> None:
    started = {
        module
        for documents in rendered.values()
        for pod in pods(documents).values()
        for container in pod["spec"]["containers"]
        for module in re.findall(r"\bpipelines\.\w+", " ".join(container.get("command", ())))
    }
    assert started == {"pipelines.submit_rayjob"}
    assert all((ROOT / f"{module.replace('.', '/')}.py").exists() for module in started)
    text = DOCKERFILE.read_text()
    # Into the folder of the packages, from where python -m finds them in any working directory.
    assert text.index("COPY pipelines pipelines\n") < text.index("RUN cp -r pipelines")
    assert 'get_path("purelib")' in text or "get_path('purelib')" in text


def test_manifests_name_the_versions_of_the_images(
    rendered: dict[str, tuple[Document, ...]],
) -> None:
    for made, documents in rendered.items():
        images = {
            container["image"]
            for pod in pods(documents).values()
            for container in pod["spec"]["containers"]
        }
        variant = "gpu" if "gpu" in made else "cpu"
        tag = f"{VERSIONS['EMBEDKIT_VERSION']}-{variant}"
        assert images == {f"registry.example.com/embedkit/ray:{tag}"}, made
        for document in documents:
            if document["kind"] in ("RayJob", "RayCronJob"):
                job = document["spec"].get("jobTemplate", document["spec"])
                assert job["rayClusterSpec"]["rayVersion"] == VERSIONS["RAY_VERSION"]


def test_make_builds_all_images_with_the_shared_versions() -> None:
    variables = ["REGISTRY=example.com/x", "VARIANT=cpu"]
    command = ["make", "--no-print-directory", "--dry-run", "images", *variables]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    builds = [" ".join(line.split()) for line in done.stdout.replace("\\\n", "").splitlines()]
    assert [re.findall(r"--target (\S+)", line) for line in builds] == [
        ["ray"],
        ["beam"],
        ["template"],
    ]
    for line in builds:
        for name in ("PYTHON_VERSION", "RAY_VERSION", "BEAM_VERSION", "EMBEDKIT_VERSION"):
            assert f"--build-arg {name}={VERSIONS[name]} " in line
        assert f":{VERSIONS['EMBEDKIT_VERSION']}-cpu " in line
