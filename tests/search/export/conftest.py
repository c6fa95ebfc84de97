"""Versions to be exported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blocks import DESCRIPTION, Job, make_options
from exporting import HARD_IDS, clusters, embedding_block, hard_metadata

from embedkit.dataset.version import Version
from embedkit.vectors import EmbeddingBlock


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Version]:
    """Builds and publishes a version of blocks."""

    def make(
        blocks: list[EmbeddingBlock], metric: str = "cosine", name: str = "v1", **options: Any
    ) -> Version:
        dimension = blocks[0].vectors.width
        description = {**DESCRIPTION, "dimension": dimension, "metric": metric, "normalized": False}
        version = Version(str(tmp_path / "root"), name)
        Job(blocks, make_options(dimension, **options), description).complete(version)
        return version

    return make


@pytest.fixture
def hard_version(build) -> Version:
    vectors = clusters(len(HARD_IDS))
    return build([embedding_block(vectors, HARD_IDS, metadata=hard_metadata())], store_text=True)
