"""Versions of blocks with random vectors."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blocks import Job, make_block, make_options, small_job

from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.vectors import EmbeddingBlock


@pytest.fixture(name="make_block", scope="session")
def _make_block() -> Callable[..., EmbeddingBlock]:
    return make_block


@pytest.fixture(name="make_options", scope="session")
def _make_options() -> Callable[..., PartOptions]:
    return make_options


@pytest.fixture(name="make_job", scope="session")
def _make_job() -> Callable[..., Job]:
    """Makes a job of the given blocks, or the small one."""

    def make(blocks: list[EmbeddingBlock] | None = None, **changes: object) -> Job:
        return small_job(**changes) if blocks is None else Job(blocks, **changes)

    return make


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(str(tmp_path / "root"), "v1")


@pytest.fixture
def job() -> Job:
    return small_job()


@pytest.fixture
def complete(version: Version, job: Job) -> Version:
    """A complete version of the small job."""
    job.complete(version)
    return version
