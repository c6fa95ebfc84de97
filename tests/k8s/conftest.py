"""The manifests as they are applied: every overlay, and overlays with their optional components."""

from pathlib import Path

import pytest
from manifests import Document, compose, render

ALONE = ("base", "overlays/cpu-smoke", "overlays/gpu", "overlays/gpu-raycronjob")
COMPOSED = (
    ("gpu", "kueue", "identity-gke", "pod-monitor"),
    ("gpu", "identity-eks"),
    ("cpu-smoke", "pod-monitor"),
)


@pytest.fixture(scope="session")
def kuberay(public_data: Path) -> Path:
    """The schemas of KubeRay's kinds."""
    return public_data / "kuberay"


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Document, ...]]:
    """Everything that can be applied, by what it was made of."""
    made = {name: render(name) for name in ALONE}
    for overlay, *components in COMPOSED:
        scratch = tmp_path_factory.mktemp(overlay)
        made["+".join([overlay, *components])] = compose(scratch, overlay, *components)
    return made
