"""One run of the whole flow around a card that is not there, in a process of its own.

``python -m tests.benchmarks.host_once CORPUS OUTPUT DIMENSION WORKERS [TOKENS_PER_SECOND]`` prints
one JSON object; without a rate the encoder costs nothing.
"""

import json
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.kinds import read_model
from embedkit.flow.embed import embed_splits
from embedkit.flow.prepare import Job, prepare
from tests.benchmarks.cards import CardClient, FreeClient
from tests.benchmarks.corpus import MODEL


def job_of(corpus: Path, output: Path, dimension: int = 384) -> Job:
    """Returns the job, each shard a split of its own, with vectors of that many components."""
    largest = max(file.stat().st_size for file in corpus.iterdir())
    config = JobConfig(inputs=(str(corpus),), model=MODEL, output=str(output), split_bytes=largest)
    model = read_model(config)
    return prepare(config, replace(model, vectors=replace(model.vectors, dimension=dimension)))


def run_flow(job: Job, client: FreeClient, workers: int) -> tuple[float, float, int]:
    """Takes all splits from their files to their commits on some threads.

    Returns:
        Seconds, seconds of all cores, and the tokens that were sent to the encoder.
    """

    def embed(splits: Sequence[Split]) -> tuple[int, int]:
        records = list(embed_splits(splits, job, client))
        return sum(one.rows for one in records), sum(one.tokens_encoded for one in records)

    splits = job.plan.splits
    start, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(workers) as threads:
        done = list(threads.map(embed, [splits[first::workers] for first in range(workers)]))
    seconds, used = time.perf_counter() - start, time.process_time() - used
    if not sum(rows for rows, _ in done):
        raise RuntimeError("the flow wrote nothing: its version was complete before")
    return seconds, used, sum(tokens for _, tokens in done)


def peak_mib() -> float:
    """Returns this process's peak; ``ru_maxrss`` begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if peak is None:
        raise RuntimeError("/proc/self/status tells no VmHWM")
    return int(peak[1]) / 1024


def main(corpus: str, output: str, dimension: str, workers: str, rate: str = "") -> None:
    """Runs the flow once and prints what it took."""
    components = int(dimension)
    client = CardClient(components, float(rate)) if rate else FreeClient(components)
    job = job_of(Path(corpus), Path(output), components)
    seconds, used, tokens = run_flow(job, client, int(workers))
    found = {
        "seconds": seconds,
        "cpu_seconds": used,
        "tokens": tokens,
        "busy_share": client.busy_share if isinstance(client, CardClient) else None,
        "peak_mib": peak_mib(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
