"""Every manifest against the schemas of its kind, in which a misspelt field is an error."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from manifests import (
    Document,
    only,
    pods,
    render,
    resource_schema,
    validate,
)
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA

# Here, so that the module is skipped as a whole and not test by test.
if not PUBLIC_DATA.is_dir():
    pytest.skip(NO_PUBLIC_DATA, allow_module_level=True)


def test_every_rendered_document_is_valid(
    rendered: dict[str, tuple[Document, ...]], kuberay: Path
) -> None:
    kinds = set()
    for documents in rendered.values():
        for document in documents:
            validate(document, kuberay)
            kinds.add(document["kind"])
    assert {"RayJob", "RayCronJob", "CronJob", "NetworkPolicy", "LocalQueue", "PodMonitor"} <= kinds


def test_no_object_of_the_schemas_is_left_open(kuberay: Path) -> None:
    def open_objects(schema: Any, path: str) -> list[str]:
        if isinstance(schema, list):
            return [p for one in schema for p in open_objects(one, path)]
        if not isinstance(schema, dict):
            return []
        here = [path] if schema.get("type") == "object" else []
        below = [p for key, one in schema.items() for p in open_objects(one, f"{path}/{key}")]
        return (here if "additionalProperties" not in schema else []) + below

    for kind in ("RayJob", "RayCluster", "RayCronJob"):
        assert open_objects(resource_schema(kuberay, kind), kind) == []


def misspelt(document: Document, path: tuple[str | int, ...]) -> Document:
    """A copy in which the last name of the path has lost a letter."""
    changed = copy.deepcopy(document)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    name = path[-1]
    assert isinstance(name, str)
    parent[name[:-2] + name[-1]] = parent.pop(name)
    return changed


CLUSTER = ("spec", "rayClusterSpec")
WORKER = (*CLUSTER, "workerGroupSpecs", 0, "template", "spec")
CONTAINER = (*WORKER, "containers", 0)
HEAD = (*CLUSTER, "headGroupSpec", "template", "spec")
TRIGGER = ("spec", "jobTemplate", "spec", "template", "spec")
MISSPELT = [
    ("RayJob", "embedkit", ("metadata", "labels")),
    ("RayJob", "embedkit", ("spec", "entrypoint")),
    ("RayJob", "embedkit", ("spec", "backoffLimit")),
    ("RayJob", "embedkit", ("spec", "shutdownAfterJobFinishes")),
    ("RayJob", "embedkit", ("spec", "submitterConfig", "backoffLimit")),
    ("RayJob", "embedkit", ("spec", "submitterPodTemplate", "spec", "restartPolicy")),
    ("RayJob", "embedkit", (*CLUSTER, "authOptions")),
    ("RayJob", "embedkit", (*CLUSTER, "authOptions", "mode")),
    ("RayJob", "embedkit", (*CLUSTER, "enableInTreeAutoscaling")),
    ("RayJob", "embedkit", (*CLUSTER, "autoscalerOptions", "idleTimeoutSeconds")),
    ("RayJob", "embedkit", (*CLUSTER, "autoscalerOptions", "securityContext", "capabilities")),
    ("RayJob", "embedkit", (*CLUSTER, "workerGroupSpecs", 0, "maxReplicas")),
    ("RayJob", "embedkit", (*HEAD, "serviceAccountName")),
    ("RayJob", "embedkit", (*WORKER, "automountServiceAccountToken")),
    ("RayJob", "embedkit", (*WORKER, "terminationGracePeriodSeconds")),
    ("RayJob", "embedkit", (*WORKER, "tolerations", 0, "effect")),
    ("RayJob", "embedkit", (*WORKER, "securityContext", "seccompProfile", "type")),
    ("RayJob", "embedkit", (*CONTAINER, "lifecycle", "preStop", "exec")),
    ("RayJob", "embedkit", (*CONTAINER, "resources", "limits")),
    ("RayJob", "embedkit", (*CONTAINER, "securityContext", "readOnlyRootFilesystem")),
    ("RayJob", "embedkit", (*CONTAINER, "volumeMounts", 0, "mountPath")),
    ("CronJob", "embedkit", ("spec", "concurrencyPolicy")),
    ("CronJob", "embedkit", ("spec", "startingDeadlineSeconds")),
    ("CronJob", "embedkit", ("spec", "jobTemplate", "spec", "podFailurePolicy", "rules")),
    ("CronJob", "embedkit", (*TRIGGER, "serviceAccountName")),
    ("CronJob", "embedkit", (*TRIGGER, "containers", 0, "env", 0, "valueFrom", "fieldRef")),
    ("CronJob", "embedkit", (*TRIGGER, "containers", 0, "securityContext", "capabilities", "drop")),
    ("NetworkPolicy", "ray-nodes", ("spec", "policyTypes")),
    ("NetworkPolicy", "ray-nodes", ("spec", "ingress", 0, "from")),
    ("NetworkPolicy", "ray-nodes", ("spec", "egress", 1, "to", 0, "ipBlock", "except")),
    ("NetworkPolicy", "dashboard", ("spec", "ingress", 0, "from", 1, "namespaceSelector")),
    ("NetworkPolicy", "dashboard", ("spec", "ingress", 0, "ports", 0, "port")),
    ("Role", "embedkit-trigger", ("rules", 0, "verbs")),
    ("RoleBinding", "embedkit-trigger", ("subjects", 0, "namespace")),
    ("ServiceAccount", "embedkit-worker", ("automountServiceAccountToken",)),
]


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    MISSPELT,
    ids=[f"{kind}-{'.'.join(map(str, path))}" for kind, _, path in MISSPELT],
)
def test_a_misspelt_field_is_refused(
    kuberay: Path, kind: str, name: str, path: tuple[str | int, ...]
) -> None:
    document = only(render("overlays/gpu"), kind, name)
    validate(document, kuberay)
    with pytest.raises(jsonschema.ValidationError):
        validate(misspelt(document, path), kuberay)


@pytest.mark.parametrize(
    ("components", "kind", "path"),
    [
        ("kueue", "LocalQueue", ("spec", "clusterQueue")),
        ("kueue", "ClusterQueue", ("spec", "resourceGroups", 0, "coveredResources")),
        ("pod-monitor", "PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval")),
    ],
)
def test_a_misspelt_field_of_a_component_is_refused(
    rendered: dict[str, tuple[Document, ...]],
    kuberay: Path,
    components: str,
    kind: str,
    path: tuple[str | int, ...],
) -> None:
    documents = next(made for name, made in rendered.items() if components in name)
    with pytest.raises(jsonschema.ValidationError):
        validate(misspelt(only(documents, kind), path), kuberay)


@pytest.mark.parametrize("value", ["tokens", "none", 1])
def test_a_mode_that_does_not_exist_is_refused(kuberay: Path, value: object) -> None:
    document = copy.deepcopy(only(render("overlays/gpu"), "RayJob"))
    document["spec"]["rayClusterSpec"]["authOptions"]["mode"] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(document, kuberay)


def test_pods_are_checked_as_kubernetes_knows_them(kuberay: Path) -> None:
    # The schemas of KubeRay leave the names of enums open; those of Kubernetes do not.
    document = copy.deepcopy(only(render("base"), "RayJob"))
    head = document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    head["containers"][0]["ports"][0]["containerPort"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        validate(document, kuberay)
    assert set(pods((only(render("overlays/gpu"), "RayJob"),))) == {
        "submitter",
        "head",
        "gpu",
    }
