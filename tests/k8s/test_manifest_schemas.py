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


def test_a_misspelt_field_is_refused(kuberay: Path) -> None:
    document = copy.deepcopy(only(render("overlays/gpu"), "RayJob"))
    cluster = document["spec"]["rayClusterSpec"]
    cluster["enableInTreeAutoscalin"] = cluster.pop("enableInTreeAutoscaling")
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
