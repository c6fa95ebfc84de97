"""The host side alone: the whole flow around an encoder that costs nothing.

Held against ``encode_batch_fast`` alone on the same texts and cores: no flow can be faster than the
tokenizer that it needs.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.commit import commit_block
from embedkit.encoders.hardware import usable_cores
from embedkit.flow.embed import embed_splits
from embedkit.flow.encode import encode_tokens
from embedkit.flow.prepare import Job, prepare
from embedkit.flow.read import read_pending
from embedkit.reports.statistics import Sidecar
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.vectors import TokenBatch
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet
from tests.benchmarks.speed import spread

_COPIES = 16
_SHARDS = 12
_WORKERS = 3
_PROMISED = 0.8


class FreeClient:
    """Answers every call at once, with rows of one array of unit vectors made beforehand."""

    def __init__(self, dimension: int, rows: int = 16_384) -> None:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((rows, dimension), dtype=np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Yields as many rows as each batch has."""
        for batch in batches:
            yield self._vectors[: len(batch)]


def job_of(corpus: Path, output: Path) -> Job:
    """Returns the job, each shard a split of its own."""
    largest = max(file.stat().st_size for file in corpus.iterdir())
    return prepare(
        JobConfig(inputs=(str(corpus),), model=MODEL, output=str(output), split_bytes=largest)
    )


def run_flow(job: Job, client: FreeClient, workers: int) -> float:
    """Takes all splits from their files to their commits on some threads; returns the seconds."""

    def embed(splits: Sequence[Split]) -> int:
        return sum(record.rows for record in embed_splits(splits, job, client))

    splits = job.plan.splits
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as threads:
        rows = sum(threads.map(embed, [splits[first::workers] for first in range(workers)]))
    seconds = time.perf_counter() - start
    if not rows:
        raise RuntimeError("the flow wrote nothing: its version was complete before")
    return seconds


def run_tokenizer(job: Job, texts: list[str], at_once: int) -> float:
    """Tokenizes texts with ``encode_batch_fast`` and drops the result; returns the seconds."""
    tokenizer = load_tokenizer(job.model.tokenizer).tokenizer
    start = time.perf_counter()
    for first in range(0, len(texts), at_once):
        tokenizer.encode_batch_fast(texts[first : first + at_once])
    return time.perf_counter() - start


def run_stages(job: Job, client: FreeClient) -> dict[str, tuple[float, float]]:
    """Runs one split stage by stage on one thread; returns wall and processor seconds of each."""
    tokenizer = load_tokenizer(job.model.tokenizer)
    spent: dict[str, tuple[float, float]] = {}

    def stage(name: str, work: Callable):
        wall, used = time.perf_counter(), time.process_time()
        result = work()
        before = spent.get(name, (0.0, 0.0))
        passed = (time.perf_counter() - wall, time.process_time() - used)
        spent[name] = (before[0] + passed[0], before[1] + passed[1])
        return result

    split = job.plan.splits[0]
    blocks = stage("read", lambda: list(read_pending(split, job.plan, job.config)))
    for block in blocks:
        texts = block.rows.column("text").to_pylist()
        stage("encode_batch_fast alone", lambda t=texts: tokenizer.tokenizer.encode_batch_fast(t))
        tokens = stage("tokenize_text", lambda b=block: tokenize_text(b, tokenizer))
        rows = stage(
            "encode_tokens",
            lambda t=tokens: encode_tokens(
                t, client, job.config.call_tokens, mixed_calls=job.model.mixed_calls
            ),
        )
        stats = stage("statistics", lambda r=rows: Sidecar.of(r, tokenizer.max_tokens).to_json())
        stage(
            "commit_block",
            lambda r=rows, s=stats: commit_block(
                job.version, r, job.options, tokenizer.max_tokens, s
            ),
        )
    return spent


def measure(texts: Texts, rounds: int, workers: int, at_once: int, wait: float) -> list[float]:
    """Runs both in turn; returns the flow's share of the tokenizer's rate, per round."""
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = texts.write_shards(Path(folder) / "corpus", _SHARDS)
        client = FreeClient(384)
        for number in range(rounds):
            wait_until_quiet(wait)
            job = job_of(corpus, Path(folder) / f"output-{number}")
            alone = run_tokenizer(job, texts.texts, at_once)
            flow = run_flow(job, client, workers)
            again = run_tokenizer(job, texts.texts, at_once)
            shares.append((alone + again) / 2 / flow)
            print(
                f"  round {number + 1}  encode_batch_fast {len(texts.texts) / alone:,.0f} and "
                f"{len(texts.texts) / again:,.0f}, flow {len(texts.texts) / flow:,.0f} documents/s:"
                f" {shares[-1]:.0%}",
                flush=True,
            )
        stages = run_stages(job_of(corpus, Path(folder) / "stages"), client)
    total = len(texts.texts) / _SHARDS
    print("\n  stage, alone on one thread     wall us/document  processor us/document")
    for name, (wall_seconds, used) in stages.items():
        print(f"  {name:<31}{wall_seconds / total * 1e6:>16.1f}{used / total * 1e6:>23.1f}")
    return shares


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--host-rounds", type=int, default=5, help="rounds of the host side")
    parser.add_argument("--workers", type=int, default=_WORKERS, help="threads of the host side")
    parser.add_argument("--at-once", type=int, default=4_096, help="texts per encode_batch_fast")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    texts = read_texts().repeated(_COPIES)
    print(
        f"\nHost side alone, an encoder that costs nothing: {texts.name}, {len(texts.texts):,} "
        f"documents in {_SHARDS} shards, {options.workers} threads on {usable_cores()} cores",
        flush=True,
    )
    shares = measure(texts, options.host_rounds, options.workers, options.at_once, options.wait)
    print(
        f"\nThe flow reached {spread(shares, '.0%')} of what encode_batch_fast alone reaches "
        f"(promised: >= {_PROMISED:.0%})"
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--wait", type=float, default=60.0)
    print(describe_machine())
    main(arguments.parse_args())
