"""What kustomize itself makes of the folder's files."""

import itertools
from pathlib import Path

import pytest
import yaml
from manifests import K8S, kustomize


def test_a_misspelt_field_of_a_kustomization_is_refused(tmp_path: Path) -> None:
    text = (K8S / "components" / "pod-monitor" / "kustomization.yaml").read_text()
    (tmp_path / "pod-monitor.yaml").write_text("")
    (tmp_path / "kustomization.yaml").write_text(text.replace("resources:", "resource:"))
    with pytest.raises(ValueError, match="resource"):
        kustomize(tmp_path)


def test_every_manifest_is_part_of_something_rendered() -> None:
    named = set()
    for file in K8S.rglob("kustomization.yaml"):
        body = yaml.safe_load(file.read_text())
        generated = itertools.chain.from_iterable(
            one["files"] for one in body.get("configMapGenerator", [])
        )
        patches = [one["path"] for one in body.get("patches", []) if "path" in one]
        parts = [*body.get("resources", []), *body.get("components", []), *patches]
        parts += [*body.get("configurations", []), *generated]
        named |= {(file.parent / part).resolve() for part in parts}
    files = {one for one in K8S.rglob("*.yaml") if one.name != "kustomization.yaml"}
    assert files - named == set()
