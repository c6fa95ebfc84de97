"""What tests of searches look into: versions of random blocks, and whole runs."""

from collections.abc import Callable
from pathlib import Path

import blocks
import pytest
from running import job_maker

from embedkit.config import JobConfig
from embedkit.dataset.version import Version
from embedkit.vectors import EmbeddingBlock


@pytest.fixture
def make_job(tiny_model, tmp_path) -> Callable[..., JobConfig]:
    return job_maker(tiny_model, tmp_path)


@pytest.fixture(scope="session")
def make_block() -> Callable[..., EmbeddingBlock]:
    return blocks.make_block


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(str(tmp_path / "root"), "v1")


@pytest.fixture
def job() -> blocks.Job:
    return blocks.small_job()
