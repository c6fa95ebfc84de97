"""Jobs over small corpora, run without an engine."""

from collections.abc import Callable
from pathlib import Path

import pytest
from running import tiny_job, write_corpus

from embedkit.config import JobConfig


@pytest.fixture
def make_job(tiny_model, tmp_path) -> Callable[..., JobConfig]:
    """Makes jobs over three shards of sixty records; other settings as given."""
    corpus = write_corpus(tmp_path / "in")

    def make(**changes: object) -> JobConfig:
        settings = {"id_column": "id", "max_tokens": 24}
        output = Path(str(changes.pop("output", tmp_path / "out")))
        return tiny_job(tiny_model, corpus, output, **(settings | changes))

    return make
