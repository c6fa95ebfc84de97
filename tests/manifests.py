"""What tests of the manifests share: rendering, strict schemas, pods out of templates."""

import copy
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

K8S = Path(__file__).resolve().parents[1] / "k8s"
KUBERNETES = "1.37"
Document = dict[str, Any]

_TEXT = {"type": "string"}
_NAMES = {"type": "object", "additionalProperties": _TEXT}
_META = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "namespace": _TEXT,
        "labels": _NAMES,
        "annotations": _NAMES,
        "ownerReferences": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"apiVersion": _TEXT, "kind": _TEXT, "name": _TEXT, "uid": _TEXT},
                "required": ["apiVersion", "kind", "name", "uid"],
            },
        },
    },
    "required": ["name"],
}


def _kind(**spec: Any) -> Document:
    properties = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": _META}
    required = ["apiVersion", "kind", "metadata"]
    if spec:
        properties["spec"] = {"type": "object", "properties": spec, "required": list(spec)}
        required.append("spec")
    return {"type": "object", "properties": properties, "required": required}


def _list(**properties: Any) -> Document:
    item = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "minItems": 1, "items": item}


_SELECTOR = {"type": "object", "properties": {"matchLabels": _NAMES}, "required": ["matchLabels"]}
# Of kinds whose projects publish no schema in a package: the fields in use, and no other.
_IN_USE = {
    "ResourceFlavor": _kind(),
    "LocalQueue": _kind(clusterQueue=_TEXT),
    "ClusterQueue": _kind(
        namespaceSelector=_SELECTOR,
        resourceGroups=_list(
            coveredResources={"type": "array", "items": _TEXT},
            flavors=_list(name=_TEXT, resources=_list(name=_TEXT, nominalQuota={})),
        ),
    ),
    "PodMonitor": _kind(
        selector=_SELECTOR,
        podMetricsEndpoints=_list(
            port=_TEXT,
            interval=_TEXT,
            relabelings=_list(sourceLabels={"type": "array", "items": _TEXT}, targetLabel=_TEXT),
        ),
    ),
}


def tool(name: str) -> str:
    """A program that a package of the `test` extra put beside this Python."""
    return str(Path(sys.executable).with_name(name))


@functools.cache
def render(folder: str) -> tuple[Document, ...]:
    """What `kubectl kustomize` makes of a folder under k8s/."""
    return kustomize(K8S / folder)


def kustomize(folder: Path) -> tuple[Document, ...]:
    command = [tool("kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def compose(scratch: Path, overlay: str, *components: str) -> tuple[Document, ...]:
    """An overlay with components, as a user's own overlay would have them."""
    to_k8s = Path(os.path.relpath(K8S, scratch.resolve()))
    scratch.joinpath("kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(to_k8s / "overlays" / overlay)],
                "components": [str(to_k8s / "components" / one) for one in components],
            }
        )
    )
    return kustomize(scratch)


def only(documents: tuple[Document, ...], kind: str, name: str | None = None) -> Document:
    """The one document of a kind, or of a kind and name."""
    found = [one for one in documents if one["kind"] == kind]
    if name is not None:
        found = [one for one in found if one["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} documents of kind {kind}"
    return found[0]


def closed(schema: Any) -> Any:
    """The schema with every object closed that lists its properties."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # Under `properties` keys are names of fields, so a field named `properties` must not mislead.
    made = {
        key: {name: closed(one) for name, one in value.items()}
        if key == "properties"
        else closed(value)
        for key, value in schema.items()
    }
    opens = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if "properties" in schema and "additionalProperties" not in schema and not opens:
        made["additionalProperties"] = False
    return made


def resource_schema(kuberay: Path, kind: str) -> Document:
    """The closed schema of one of KubeRay's kinds."""
    stored = json.loads((kuberay / f"{kind.lower()}s.json").read_text())
    schema = closed(stored["versions"]["v1"])
    schema["properties"]["metadata"] = closed(_META)
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return dict(schema)


@functools.cache
def _resource_validator(kuberay: Path, kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(resource_schema(kuberay, kind))


def validate(document: Document, kuberay: Path) -> None:
    """Raises for any field that the document's kind does not have, or has otherwise."""
    kind = document["kind"]
    if document["apiVersion"] == "ray.io/v1":
        _resource_validator(kuberay, kind).validate(document)
        # The pods once more, against what Kubernetes itself says of them.
        for pod in pods((document,)).values():
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    elif kind in _IN_USE:
        jsonschema.validate(document, closed(_IN_USE[kind]))
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def pods(documents: tuple[Document, ...]) -> dict[str, Document]:
    """The pods that will be made of RayJobs, RayCronJobs and CronJobs, by their part."""
    found: dict[str, Document] = {}
    for document in documents:
        for name, template in _templates(document):
            found[name] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    **template.get("metadata", {}),
                    "name": name,
                    "namespace": document["metadata"].get("namespace", "embedkit"),
                },
                "spec": copy.deepcopy(template["spec"]),
            }
    return found


def _templates(document: Document) -> Iterator[tuple[str, Document]]:
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        yield "trigger", spec["jobTemplate"]["spec"]["template"]
    if document["kind"] in ("RayJob", "RayCronJob"):
        job = spec.get("jobTemplate", spec)
        cluster = job["rayClusterSpec"]
        yield "submitter", job["submitterPodTemplate"]
        yield "head", _with_autoscaler(cluster)
        for group in cluster["workerGroupSpecs"]:
            yield group["groupName"], group["template"]


def _with_autoscaler(cluster: Document) -> Document:
    """The head's template with the container that KubeRay adds for the autoscaler."""
    template = copy.deepcopy(cluster["headGroupSpec"]["template"])
    if cluster.get("enableInTreeAutoscaling"):
        options = dict(cluster["autoscalerOptions"])
        for ours in ("version", "upscalingMode", "idleTimeoutSeconds"):
            options.pop(ours, None)
        image = template["spec"]["containers"][0]["image"]
        template["spec"]["containers"].append({"name": "autoscaler", "image": image, **options})
    return template
