"""Jobs over small corpora, run without an engine."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from running import job_maker

from embedkit.config import JobConfig
from embedkit.corpus.duplicates import check_ids
from embedkit.corpus.plan import Split
from embedkit.encoders.local_client import LocalConnection
from embedkit.flow.embed import embed_splits
from embedkit.flow.prepare import Job


@pytest.fixture
def make_job(tiny_model, tmp_path) -> Callable[..., JobConfig]:
    return job_maker(tiny_model, tmp_path)


@pytest.fixture
def embed_some() -> Callable[[Job, Sequence[Split]], int]:
    """Embeds some splits of a job and completes nothing; returns the tokens that took."""

    def embed(job: Job, splits: Sequence[Split]) -> int:
        client = LocalConnection(job.model)()
        checked = replace(job, plan=check_ids(job.plan, job.config))
        for _ in embed_splits(splits, checked, client):
            pass
        return sum(load.tokens for load in client.loads())

    return embed
