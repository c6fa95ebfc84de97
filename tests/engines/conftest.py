"""Jobs over small corpora, run without an engine."""

from collections.abc import Callable, Sequence

import pytest
from running import job_maker

from embedkit.config import JobConfig
from embedkit.corpus.duplicates import check_ids
from embedkit.corpus.plan import Split
from embedkit.encoders.local_client import LocalConnection
from embedkit.flow.embed import embed_split
from embedkit.flow.prepare import Job
from embedkit.tokens.tokenization import load_tokenizer


@pytest.fixture
def make_job(tiny_model, tmp_path) -> Callable[..., JobConfig]:
    return job_maker(tiny_model, tmp_path)


@pytest.fixture
def embed_some() -> Callable[[Job, Sequence[Split]], int]:
    """Embeds some splits of a job and completes nothing; returns the tokens that took."""

    def embed(job: Job, splits: Sequence[Split]) -> int:
        client = LocalConnection(job.model)()
        tokenizer = load_tokenizer(job.model.tokenizer)
        plan = check_ids(job.plan, job.config)
        for split in splits:
            for _ in embed_split(
                split, plan, job.config, None, tokenizer, client, 4096, job.version, job.options
            ):
                pass
        return sum(load.tokens for load in client.loads())

    return embed
