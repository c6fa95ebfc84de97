"""The manual's own overlay renders, and its numbers are those of the manifests."""

import os
import re
from pathlib import Path

import pytest
import yaml
from manifests import K8S, Document, kustomize, only, pods, render, validate

README = (K8S / "README.md").read_text()
MANUAL = (K8S.parent / "docs" / "kubernetes.md").read_text()
SIZING = (K8S.parent / "docs" / "sizing.md").read_text()
JOB = "inputs: [gs://corpus/*.parquet]\nmodel: /models/mine\noutput: gs://out\n"


@pytest.fixture(scope="module")
def own_overlay(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, ...]:
    """What the overlay of step 5 renders to."""
    folder = tmp_path_factory.mktemp("nightly").resolve()
    (folder / "job.yaml").write_text(JOB)
    block = re.search(r"^```yaml\n(.*?)^```", MANUAL, re.MULTILINE | re.DOTALL)
    assert block is not None
    text = block[1].replace("../k8s", os.path.relpath(K8S, folder))
    (folder / "kustomization.yaml").write_text(text)
    return kustomize(folder)


def test_the_overlay_of_the_manual_is_valid(
    own_overlay: tuple[Document, ...], kuberay: Path
) -> None:
    for document in own_overlay:
        validate(document, kuberay)


def test_the_overlay_of_the_manual_changes_what_it_says(own_overlay: tuple[Document, ...]) -> None:
    for name in ("embedkit-head", "embedkit-worker"):
        annotations = only(own_overlay, "ServiceAccount", name)["metadata"]["annotations"]
        assert annotations["eks.amazonaws.com/role-arn"].endswith("role/YOUR-ROLE")
    job = only(own_overlay, "ConfigMap")
    assert job["data"] == {"job.yaml": JOB}
    for name, pod in pods(own_overlay).items():
        assert pod["spec"]["containers"][0]["image"] == "REGISTRY/embedkit/ray:0.2.0-gpu"
        named = [v["configMap"]["name"] for v in pod["spec"]["volumes"] if "configMap" in v]
        assert named == ([] if name == "submitter" else [job["metadata"]["name"]])


def test_numbers_of_the_manual_are_those_of_the_manifests() -> None:
    run = only(render("overlays/gpu"), "RayJob")["spec"]
    assert f"`activeDeadlineSeconds` ({run['activeDeadlineSeconds'] // 3600} h)" in MANUAL
    assert f"no nodes within {run['preRunningDeadlineSeconds'] // 60} minutes" in MANUAL
    assert f"`backoffLimit: {run['backoffLimit']}` times" in MANUAL
    group = run["rayClusterSpec"]["workerGroupSpecs"][0]
    assert f"1..{group['maxReplicas']} GPU nodes" in MANUAL
    idle = run["rayClusterSpec"]["autoscalerOptions"]["idleTimeoutSeconds"]
    assert f"`idleTimeoutSeconds` ({idle} s)" in SIZING
    assert str(pods(render("base"))["trigger"]["spec"]["securityContext"]["runAsUser"]) in MANUAL


def test_folders_of_the_readme_are_there() -> None:
    named = re.findall(r"^\| `([a-z/-]+/)` \|", README, re.MULTILINE)
    assert {"base/", "overlays/gpu/", "components/", "images/"} <= set(named)
    assert [name for name in named if not (K8S / name).is_dir()] in ([], ["grafana/"])
    components = re.search(r"`components/` \| options: (.*) \|", README)
    assert components is not None
    there = {one.name for one in (K8S / "components").iterdir()}
    assert set(re.findall(r"`([a-z-]+)`", components[1])) == there


def test_yaml_files_of_the_folder_are_readable() -> None:
    for file in K8S.rglob("*.yaml"):
        assert list(yaml.safe_load_all(file.read_text())), file
