"""One measurement of ``scale`` in a process of its own; prints one JSON object.

``plan CORPUS OUTPUT`` plans a job; ``search ROOT QUERIES K`` searches a version for so many queries
at once, or reads its ids and vectors where ``QUERIES`` is ``read``.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from embedkit.config import JobConfig
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.rows import read_columns
from embedkit.dataset.version import find_version
from embedkit.encoders.kinds import read_model
from embedkit.flow.prepare import prepare
from embedkit.search.exact import ROWS_AT_ONCE, search
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.host_once import peak_mib


def planned(inputs: str, output: str) -> dict[str, Any]:
    """Plans a job of the files of a folder or a pattern."""
    config = JobConfig(inputs=(inputs,), model=MODEL, output=output, version="v1")
    model = read_model(config)
    started, cpu = time.perf_counter(), time.process_time()
    job = prepare(config, model)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "splits": len(job.plan.splits),
    }


def searched(root: str, queries: str, k: str) -> dict[str, Any]:
    """Searches a version, or reads what a search reads."""
    version = find_version(root)
    manifest = read_manifest(version)
    random = np.random.default_rng(0)
    shape = (1 if queries == "read" else int(queries), manifest.description["dimension"])
    wanted = random.standard_normal(shape, dtype=np.float32)
    started, cpu = time.perf_counter(), time.process_time()
    if queries == "read":
        for _ in read_columns(version, manifest.parts, ["id", "embedding"], ROWS_AT_ONCE):
            pass
    else:
        assert all(len(hits) == int(k) for hits in search(version, wanted, int(k)))
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "rows": manifest.rows,
    }


def main(what: str, *arguments: str) -> None:
    """Measures once and prints."""
    found = {"plan": planned, "search": searched}[what](*arguments)
    print(json.dumps({**found, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
