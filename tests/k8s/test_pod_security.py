"""Pods and images against checkov's rules; a weakened one shows that the rules bite."""

import copy
import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from manifests import K8S, Document, pods, render

CHECKOV = K8S.parent / ".venv-checkov" / "bin" / "checkov"

# What checkov asks for and these pods do not have, with the reason.
ACCEPTED = {
    "CKV_K8S_8": "KubeRay adds liveness probes to Ray nodes; the others end by themselves",
    "CKV_K8S_9": "KubeRay adds readiness probes to Ray nodes; the others serve nothing",
    "CKV_K8S_15": "tags are never moved, and the image is too large to be pulled for every pod",
    "CKV_K8S_43": "an overlay sets the digest of the image that was pushed",
}
WITH_TOKEN = {
    "CKV_K8S_38": "the trigger creates the RayJob; the head's autoscaler changes the RayCluster"
}


def checkov(folder: Path) -> dict[str, set[str]]:
    """The failed checks of each resource in a folder of manifests and Dockerfiles."""
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed; `make test` makes its environment")
    command = [str(CHECKOV), "--directory", str(folder), "--framework", "kubernetes", "dockerfile"]
    offline = ["--skip-download", "--output", "json", "--compact"]
    done = subprocess.run([*command, *offline], capture_output=True, text=True, timeout=240)
    failed: dict[str, set[str]] = defaultdict(set)
    for report in json.loads(done.stdout):
        assert report["summary"]["parsing_errors"] == 0
        for check in report["results"]["failed_checks"]:
            failed[check["resource"]].add(check["check_id"])
        for check in report["results"]["passed_checks"]:
            failed[check["resource"]].update()
    return failed


@pytest.fixture(scope="module")
def failed_checks(
    rendered: dict[str, tuple[Document, ...]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """Failed checks of every pod, of a weakened worker, and of the images."""
    folder = tmp_path_factory.mktemp("pods")
    made = {}
    for number, documents in enumerate(rendered.values()):
        for name, pod in pods(documents).items():
            made[f"{number}-{name}"] = pod
        kinds = ("Role", "RoleBinding", "ServiceAccount", "NetworkPolicy")
        rest = [one for one in documents if one["kind"] in kinds]
        (folder / f"{number}-rest.yaml").write_text(yaml.safe_dump_all(rest))
    made["weak"] = copy.deepcopy(pods(render("overlays/gpu"))["gpu"])
    made["weak"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    for name, pod in made.items():
        pod["metadata"]["name"] = name
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(pod))
    shutil.copy(K8S / "images" / "Dockerfile", folder)
    return checkov(folder)


def test_pods_are_hardened(failed_checks: dict[str, set[str]]) -> None:
    of_ours = {
        name: checks
        for name, checks in failed_checks.items()
        if not name.endswith(".weak") and "Dockerfile" not in name
    }
    assert {name.rsplit("-", 1)[-1] for name in of_ours if name.startswith("Pod.")} == {
        "trigger",
        "submitter",
        "head",
        "cpu",
        "gpu",
    }
    for name, checks in of_ours.items():
        accepted = set(ACCEPTED)
        if name.startswith("Pod.") and name.endswith(("-trigger", "-head")):
            accepted |= set(WITH_TOKEN)
        assert checks <= accepted, name


def test_a_weakened_pod_is_found(failed_checks: dict[str, set[str]]) -> None:
    assert "CKV_K8S_16" in failed_checks["Pod.embedkit.weak"]


def test_only_what_needs_it_gets_a_token(rendered: dict[str, tuple[Document, ...]]) -> None:
    for made, documents in rendered.items():
        for name, pod in pods(documents).items():
            scaled = "autoscaler" in [one["name"] for one in pod["spec"]["containers"]]
            needs = name == "trigger" or (name == "head" and scaled)
            assert pod["spec"]["automountServiceAccountToken"] is needs, (made, name)


def test_volumes_are_of_kinds_that_cannot_reach_the_machine(
    rendered: dict[str, tuple[Document, ...]],
) -> None:
    # The volumes that the Pod Security Standard "restricted", which the namespace enforces, allows.
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for documents in rendered.values():
        for pod in pods(documents).values():
            for volume in pod["spec"].get("volumes", []):
                assert set(volume) - {"name"} <= allowed
    namespace = next(one for one in render("base") if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_image_is_hardened(failed_checks: dict[str, set[str]]) -> None:
    of_images = {name: found for name, found in failed_checks.items() if "Dockerfile" in name}
    # A health check of its own it needs not: Kubernetes has probes.
    assert of_images
    assert set().union(*of_images.values()) == {"CKV_DOCKER_2"}
