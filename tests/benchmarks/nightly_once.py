"""One run of one night, in a process of its own, by its steps.

``python -m tests.benchmarks.nightly_once CORPUS OUTPUT VERSION SCOPE ENCODER SPLIT_BYTES`` prints
one JSON object; ``ENCODER`` is ``model`` or ``free``, which costs nothing.
"""

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.hardware import usable_cores
from embedkit.encoders.kinds import read_model
from embedkit.encoders.local_client import LocalConnection
from embedkit.engines.copying import copy_unchanged
from embedkit.engines.display import Nothing
from embedkit.engines.id_check import with_ids_checked
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.embed import embed_splits
from embedkit.flow.map_splits import map_in_threads
from embedkit.flow.prepare import Job, prepare
from tests.benchmarks.cards import FreeClient
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.host_once import peak_mib


def embed(job: Job, splits: tuple[Split, ...], encoder: str) -> None:
    """Embeds splits: with the model one after the other, with no encoder on all cores."""
    if encoder == "model":
        client = LocalConnection(job.model)()
        list(embed_splits(splits, job, client))
        return
    free, workers = FreeClient(job.model.vectors.dimension), usable_cores()

    def some(mine: Sequence[Split]) -> None:
        for _ in embed_splits(mine, job, free):
            pass

    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(some, [splits[first::workers] for first in range(workers)]))


def main(
    corpus: str, output: str, version: str, scope: str, encoder: str, split_bytes: str
) -> None:
    """Runs the night and prints what each step took."""
    spent: dict[str, float] = {}
    started, last = time.perf_counter(), time.process_time()

    def step(name: str) -> None:
        """Notes the seconds of all cores since the last step."""
        nonlocal last
        now = time.process_time()
        spent[name], last = now - last, now

    config = JobConfig(
        inputs=(corpus,), model=MODEL, output=output, version=version, id_column="id",
        reuse_scope=scope, split_bytes=int(split_bytes), engine="plain",
        # Of vectors that cost nothing, all say the same.
        near_duplicates="off" if encoder == "free" else "auto",
    )  # fmt: skip
    model = read_model(config)
    step("model")
    model_seconds = time.perf_counter() - started
    job = prepare(config, model)
    step("plan")
    job, splits = with_ids_checked(job, job.plan.splits, map_in_threads, Nothing())
    step("ids")
    _, left = copy_unchanged(job, splits, map_in_threads, Nothing())
    step("copy")
    if left:
        if job.reuse is not None and scope == "global":
            EarlierRows(job.reuse).write_index(map_in_threads)
        embed(job, left, encoder)
    step("embed")
    before_end = peak_mib()
    account = complete_version(job, begin_account([]))
    step("complete")
    found = {
        "seconds": time.perf_counter() - started,
        "model_seconds": model_seconds,
        "steps": spent,
        "splits": len(splits),
        "read": len(left),
        "rows": account.rows,
        "rows_encoded": account.rows if account.rows_encoded is None else account.rows_encoded,
        "tokens": account.tokens,
        "tokens_encoded": account.tokens_encoded,
        "peak_mib": before_end,
        "peak_whole_mib": peak_mib(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
