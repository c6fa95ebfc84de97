"""The folder in which the manual's snippets run."""

import contextlib
from pathlib import Path

import pytest
from playground import make_playground


@pytest.fixture(scope="session")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pages name, to be copied before anything is changed."""
    folder = tmp_path_factory.mktemp("playground")
    with contextlib.chdir(folder):
        make_playground(folder)
    return folder
