"""Blocks with known contents as the encode stage hands them over, and their reports."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.digests import text_hash
from embedkit.hashes.repeats import RepeatedHashes
from embedkit.records import Reject
from embedkit.reports.account import RunAccount
from embedkit.reports.facts import Facts
from embedkit.reports.repeats import TextRepeats, hash64, name_repeats
from embedkit.reports.report import Report, build_report
from embedkit.reports.sample import RowKeys, Sample, Wanted, read_sample
from embedkit.reports.section import Section
from embedkit.reports.sections import SECTIONS, records
from embedkit.reports.statistics import Statistics
from embedkit.vectors import EmbeddingBlock, Vectors

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
    split: int = 0,
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
    return EmbeddingBlock(f"{split:05d}", seq, documents, True, rejects, rows)


def read_of(blocks: Sequence[EmbeddingBlock]) -> Callable[[Sequence[Wanted]], list[pa.Table]]:
    """Reads rows of blocks as they would be read from their parts."""
    known = {block.block_id: block.rows for block in blocks}

    def read(wanted: Sequence[Wanted]) -> list[pa.Table]:
        return [_columns(known[one.block_id], one.columns, one.rows) for one in wanted]

    return read


def _columns(
    rows: pa.RecordBatch, columns: Sequence[str], places: NDArray[np.int64] | None
) -> pa.Table:
    chosen = rows.select([name for name in columns if name in rows.schema.names])
    return pa.Table.from_batches([chosen if places is None else chosen.take(pa.array(places))])


def sample_of(*blocks: EmbeddingBlock, texts: bool = True) -> Sample:
    """Samples the rows of blocks."""
    keys = sum(map(RowKeys.of, blocks), RowKeys())
    return read_sample(keys, read_of(blocks), texts)


def repeats_of(*batches: pa.RecordBatch) -> TextRepeats:
    """Finds the repeated texts of rows."""

    def read(places: list[int]) -> pa.Table:
        columns = ["text_hash", "id", "source", "row_index", "text"]
        rows = pa.Table.from_batches(batches)
        return rows.select([c for c in columns if c in rows.schema.names]).take(pa.array(places))

    hashes = [hash64(batch.column("text_hash")) for batch in batches]
    return name_repeats(RepeatedHashes.of(np.concatenate(hashes)), read)


def make_report(
    blocks: Sequence[EmbeddingBlock],
    dataset: dict[str, Any] | None = None,
    accounts: dict[str, int] | None = None,
    run: dict[str, Any] | None = None,
    sections: Sequence[Section[Any, Any]] = SECTIONS,
) -> Report:
    """Builds the report of blocks whose accounts add up, unless told otherwise."""
    described = {**DATASET, **(dataset or {})}
    measured = [
        Statistics.of(block, described["max_tokens"], sections=sections) for block in blocks
    ]
    total = sum(measured, Statistics.empty(sections))
    counted = total.get(records.SECTION)
    expected = {
        "files": 3,
        "bytes": 12_345,
        "documents": counted.documents,
        "rows": counted.rows,
        "rejects": sum(counted.rejects.values()),
    }
    timed = {
        "created": "2026-01-02T03:04:05Z",
        "wall_seconds": 100.0,
        "encode_seconds": 80.0,
        "tokens_encoded": 80_000,
        "encoder_busy_share": 0.97,
        "rows_resumed": 0,
    }
    rejects = {block.block_id: block.rejects for block in blocks}
    facts = Facts(
        dataset=described,
        account=RunAccount(**{**expected, **timed, **(accounts or {}), **(run or {})}),
        sample=read_sample(total.keys, read_of(blocks), texts=True),
        repeats=repeats_of(*(block.rows for block in blocks)) if blocks else TextRepeats(),
        examples=counted.examples(rejects.__getitem__),
    )
    return build_report(total, facts, sections)
