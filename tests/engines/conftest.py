"""Jobs over small corpora, run without an engine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from running import tiny_job, write_corpus

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.local_client import LocalConnection
from embedkit.flow import embed_split
from embedkit.job import Job
from embedkit.tokens.tokenization import load_tokenizer


@pytest.fixture
def make_job(tiny_model, tmp_path) -> Callable[..., JobConfig]:
    """Makes jobs over three shards of sixty records; other settings as given."""
    corpus = write_corpus(tmp_path / "in")

    def make(**changes: object) -> JobConfig:
        settings = {"id_column": "id", "max_tokens": 24}
        output = Path(str(changes.pop("output", tmp_path / "out")))
        return tiny_job(tiny_model, corpus, output, **(settings | changes))

    return make


@pytest.fixture
def embed_some() -> Callable[[Job, Sequence[Split]], int]:
    """Embeds some splits of a job and completes nothing; returns the tokens that took."""

    def embed(job: Job, splits: Sequence[Split]) -> int:
        client = LocalConnection(job.model)()
        tokenizer = load_tokenizer(job.model.tokenizer)
        for split in splits:
            for _ in embed_split(
                split, job.plan, job.config, None, tokenizer, client, 4096, job.version, job.options
            ):
                pass
        return sum(load.tokens for load in client.loads())

    return embed
