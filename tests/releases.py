"""The versions that earlier releases wrote and tests keep, with their jobs and inputs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from embedkit.config import JobConfig

FIXTURES = Path(__file__).parent / "fixtures"
MODEL = FIXTURES / "model"
INPUTS = "memory://embedkit-fixtures"
"""Where jobs find the inputs: a place of the same name and with the same times everywhere."""

_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)


def releases() -> list[str]:
    """The releases of which there are versions, oldest first."""
    found = [path.parent.name for path in FIXTURES.glob("*/jobs.json")]
    return sorted(found, key=lambda release: tuple(map(int, release.split("."))))


def job(release: str, name: str, output: Path, **changes: Any) -> JobConfig:
    """The job that a release wrote one of its versions with."""
    settings = json.loads((FIXTURES / release / "jobs.json").read_text())[name]
    return JobConfig(**({"model": str(MODEL), "output": str(output)} | settings | changes))


def version_of(release: str, name: str) -> str:
    """The name of the version that a release wrote for a job."""
    return str(json.loads((FIXTURES / release / "versions.json").read_text())[name])


def copy_of_root(release: str, to: Path) -> Path:
    """The root that a release wrote, to be written to."""
    return Path(shutil.copytree(FIXTURES / release / "root", to))


@contextmanager
def inputs_in_memory() -> Iterator[None]:
    """Has the inputs where the jobs look for them."""
    memory = fsspec.filesystem("memory")
    folder = INPUTS.removeprefix("memory:/")
    for path in sorted((FIXTURES / "inputs").iterdir()):
        memory.pipe_file(f"{folder}/{path.name}", path.read_bytes())
        memory.store[f"{folder}/{path.name}"].created = _WRITTEN
    yield
    memory.rm(folder, recursive=True)
