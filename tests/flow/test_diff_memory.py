"""Comparing versions of a million rows: memory as for a tenth of them, every row accounted for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from blocks import (
    DESCRIPTION,
    document_columns,
    embedding_columns,
    make_options,
    record_batch,
)

from embedkit.dataset.commit import commit_block
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import seal
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.version import Version
from embedkit.vectors import EmbeddingBlock

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

BLOCK_ROWS = 8192
DIMENSION = 16
OPTIONS = make_options(DIMENSION)

COMPARE = """
import json, resource, sys
from embedkit.flow.diff import diff_versions
diff = diff_versions(*sys.argv[1:])
listed = sum(1 for _ in diff.rows())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({**diff.to_dict(), "listed": listed, "peak": peak}))
"""


def blocks(rows: int, later: bool) -> Iterator[EmbeddingBlock]:
    """Blocks of random vectors; in the later version every hundredth row has another text."""
    for split, start in enumerate(range(0, rows, BLOCK_ROWS)):
        count = min(BLOCK_ROWS, rows - start)
        random = np.random.default_rng(split)
        vectors = random.standard_normal((count, DIMENSION), dtype=np.float32)
        texts = [f"text {start + n}" for n in range(count)]
        ids = [f"doc-{start + n}" for n in range(count)]
        if later:
            for n in range(0, count, 100):
                texts[n] += " changed"
                vectors[n] += 1
            ids[1] = f"new-{split}"
        columns = {
            **document_columns(texts, ids, row_index=range(start, start + count)),
            pa.field("stars", pa.int64()): pa.array(range(count)),
            **embedding_columns(vectors, np.full(count, 4), 32),
        }
        yield EmbeddingBlock(f"{split:05d}", 0, count, True, (), record_batch(columns))


def make(version: Version, rows: int, later: bool) -> None:
    create_or_check_plan(version, VersionPlan("f" * 32))
    splits = []
    for block in blocks(rows, later):
        commit_block(version, block, OPTIONS, 32, b"{}")
        splits.append(block.split_id)
    described = DESCRIPTION | {"dimension": DIMENSION, "normalized": False}
    seal(version, finalize(version, splits, described), lambda _: "# card\n")


def compared(root: Path, rows: int) -> dict:
    versions = [Version(str(root / str(rows)), name) for name in ("a", "b")]
    for later, version in enumerate(versions):
        make(version, rows, bool(later))
    arguments = [sys.executable, "-c", COMPARE, *(version.url for version in versions)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=600)
    return json.loads(done.stdout)


def test_memory_is_that_of_a_tenth_of_the_rows(tmp_path):
    found = {rows: compared(tmp_path, rows) for rows in (100_000, 1_000_000)}
    for rows, one in found.items():
        pieces = [min(BLOCK_ROWS, rows - start) for start in range(0, rows, BLOCK_ROWS)]
        changed = sum(-(-count // 100) for count in pieces)
        assert (one["added"], one["removed"]) == (len(pieces), len(pieces))
        assert one["changed"] == changed
        assert one["unchanged"] == rows - changed - len(pieces)
        assert one["listed"] == changed + 2 * len(pieces)
    assert found[1_000_000]["peak"] < 1.25 * found[100_000]["peak"]
