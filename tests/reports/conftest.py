"""Blocks with known contents, as the encode stage hands them over."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from texts import MESSY

from embedkit.records import EmbeddingBlock, Reject, text_hash
from embedkit.reports.account import RunAccount
from embedkit.reports.duplicates import text_duplicates
from embedkit.reports.quality import BlockStatistics
from embedkit.reports.report import Report, build_report
from embedkit.vectors import Vectors


def build_block(
    texts: Sequence[str],
    vectors: NDArray[np.floating] | None = None,
    n_tokens: Sequence[int] | None = None,
    max_tokens: int = 256,
    rejects: tuple[Reject, ...] = (),
    seq: int = 0,
    chunks: int = 1,
    ids: Sequence[str] | None = None,
    source: str = "texts.jsonl",
) -> EmbeddingBlock:
    count = len(texts)
    if vectors is None:
        vectors = np.random.default_rng(seq).normal(size=(count, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.array([len(text.split()) + 2 for text in texts] if n_tokens is None else n_tokens)
    names = list(ids) if ids is not None else [f"{seq}/{place}" for place in range(count)]
    rows = pa.RecordBatch.from_pydict(
        {
            "id": pa.array(names, pa.string()),
            "doc_id": pa.array([f"{seq}/{place // chunks}" for place in range(count)], pa.string()),
            "chunk_index": pa.array([place % chunks for place in range(count)], pa.int32()),
            "char_start": pa.array([0] * count, pa.int32()),
            "char_end": pa.array([len(text) for text in texts], pa.int32()),
            "text_hash": pa.array([text_hash(text) for text in texts], pa.string()),
            "source": pa.array([source] * count, pa.string()),
            "row_index": pa.array(range(count), pa.int64()),
            "text": pa.array(texts, pa.string()),
            "embedding": Vectors.from_matrix(vectors).to_arrow(),
            "n_tokens": pa.array(lengths, pa.int32()),
            "truncated": pa.array(lengths > max_tokens, pa.bool_()),
        }
    )
    documents = -(-count // chunks) + len(rejects)
    return EmbeddingBlock("00000", seq, documents, False, rejects, rows)


@pytest.fixture(scope="session")
def make_block() -> Callable[..., EmbeddingBlock]:
    return build_block


DATASET = {
    "version": "v0123456789ab",
    "model": "some/model",
    "revision": None,
    "dimension": 8,
    "normalized": True,
    "prompt": "",
    "max_tokens": 256,
    "backend": "torch",
    "precision": "float32",
    "libraries": {"embedkit": "0.1.0"},
}


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Report]:
    """Builds the report of blocks whose accounts add up, unless told otherwise."""

    def make(
        blocks: Sequence[EmbeddingBlock],
        dataset: dict[str, Any] | None = None,
        accounts: dict[str, int] | None = None,
        run: dict[str, Any] | None = None,
        exact: bool = True,
    ) -> Report:
        described = {**DATASET, **(dataset or {})}
        statistics = (BlockStatistics.of(block, described["max_tokens"]) for block in blocks)
        total = sum(statistics, BlockStatistics.empty())
        counted = {
            "files": 3,
            "bytes": 12_345,
            "documents": total.documents,
            "rows": total.rows,
            "rejects": sum(total.rejects.values()),
        }
        measured = {
            "created": "2026-01-02T03:04:05Z",
            "wall_seconds": 100.0,
            "encode_seconds": 80.0,
            "tokens_encoded": 80_000,
            "encoder_busy_share": 0.97,
            "rows_resumed": 0,
        }
        return build_report(
            total,
            described,
            RunAccount(**{**counted, **measured, **(accounts or {}), **(run or {})}),
            text_duplicates(lambda: [block.rows for block in blocks]) if exact else None,
        )

    return make


@pytest.fixture(scope="session")
def usual_blocks() -> list[EmbeddingBlock]:
    """Two blocks with long texts, repeated ones and rejects."""
    generator = np.random.default_rng(8)
    lengths = generator.lognormal(3.5, 1.2, 600).astype(int) + 2
    texts = [f"text number {place // 2 if place < 40 else place}" for place in range(600)]
    rejects = tuple(
        Reject("a/b.jsonl", 7 * n, "empty_text", "no text; drop it", excerpt="{}") for n in range(8)
    )
    bad = Reject("a/b.jsonl", 99, "broken_json", "line is no JSON; mend it", "id 9", '{"a": ')
    return [
        build_block(texts[:400], n_tokens=lengths[:400], rejects=rejects, seq=0),
        build_block(texts[400:], n_tokens=lengths[400:], rejects=(bad,), seq=1),
    ]


@pytest.fixture(scope="session")
def hostile_blocks() -> list[EmbeddingBlock]:
    """Texts that mean harm, in every place that a report shows."""
    texts = [
        "<script>alert(1)</script>",
        "\"'><img src=x onerror=alert(1)>",
        "</style></title></svg><svg onload=alert(1)>",
        "{{ 7 * 7 }}{% raw %}",
        "\u202e\u2066right to left\x00\x1b[31m",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 30,
        "W" * 100_000,
        "http://example.com/tracker.png",
        *(text for text in MESSY if text),
    ]
    # Every text twice, so that it shows among the repeated ones; close vectors, so that it pairs.
    vectors = np.random.default_rng(2).normal(size=(len(texts), 8)).astype(np.float32)
    vectors[:8] = vectors[0] + 1e-3 * vectors[:8]
    rejects = tuple(
        Reject(text, place, text[:30], text, text, text) for place, text in enumerate(texts[:8])
    )
    return [
        build_block(
            texts,
            vectors,
            ids=[f"{seq}{text}" for text in texts],
            source=texts[seq],
            rejects=rejects,
            seq=seq,
        )
        for seq in range(2)
    ]


@pytest.fixture(scope="session")
def hostile_dataset() -> dict[str, Any]:
    """A dataset whose own description means harm."""
    bad = "</title><script>alert(1)</script>\x00\ud800"
    return {"version": bad, "model": bad, "prompt": bad, bad: bad, "libraries": {bad: bad}}
