"""Peak memory of a run whose vectors are many times its text, whatever the size of the corpus."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import write_jsonl
from texts import paragraphs

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

RUN = """
import resource, sys
import numpy as np
from embedkit.config import JobConfig
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.embed import embed_splits
from embedkit.flow.prepare import prepare

class Client:
    def encode_all(self, batches):
        random = np.random.default_rng(0)
        for batch in batches:
            yield random.standard_normal((len(batch.spans), 384), dtype=np.float32)

corpus, model, output = sys.argv[1:]
job = prepare(JobConfig(inputs=(corpus,), model=model, output=output, granularity="token",
                        backend="torch", engine="plain", store_tokens=True))
blocks = sum(1 for _ in embed_splits(job.plan.splits, job, Client()))
complete_version(job, begin_account([], False), [split.split_id for split in job.plan.splits])
print(blocks, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""A run with all but an encoder, whose own memory depends on neither."""


def peak(corpus: Path, model: str, output: Path) -> tuple[int, int]:
    """The blocks of a run, and the most memory of its process in kB."""
    arguments = [sys.executable, "-c", RUN, str(corpus), model, str(output)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    blocks, size = map(int, done.stdout.split())
    return blocks, size


def test_the_memory_of_token_vectors_does_not_grow_with_the_corpus(minilm, tmp_path):
    found = {}
    for times in (1, 8):
        texts = (f"{n} {text}" for n in range(times) for text in paragraphs()[:1800])
        corpus = write_jsonl(tmp_path / f"{times}.jsonl", ({"text": text} for text in texts))
        found[times] = peak(corpus, minilm, tmp_path / f"out-{times}")
    (few, least), (many, most) = found[1], found[8]
    print(f"\npeak of {few} blocks {least >> 10} MB, of {many} blocks {most >> 10} MB")
    assert many >= 6 * few >= 12
    assert most < 1.25 * least
