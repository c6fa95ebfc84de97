"""Blocks with known contents as the encode stage hands them over, and their reports."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.repeats import RepeatedHashes
from embedkit.reports.account import RunAccount
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.facts import Facts
from embedkit.reports.map.table import DrawnMap
from embedkit.reports.near.figures import NearDuplicates
from embedkit.reports.repeats import TextRepeats, hash64, name_repeats
from embedkit.reports.report import Report, build_report
from embedkit.reports.sample import RowKeys, Sample, Wanted, excerpt, read_sample
from embedkit.reports.section import Section
from embedkit.reports.sections import SECTIONS, records
from embedkit.reports.statistics import Statistics
from embedkit.reports.vector_sample import key_bound
from embedkit.vectors import EmbeddingBlock

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


def examined_of(*blocks: EmbeddingBlock) -> ExaminedRows | None:
    """Examines the rows of blocks."""
    with_rows = [block.rows for block in blocks if block.rows.num_rows]
    if not all("embedding" in rows.schema.names for rows in with_rows):
        return None
    total, first = ExaminedRows(), 0
    bound = key_bound(sum(rows.num_rows for rows in with_rows))
    for rows in with_rows:
        total += ExaminedRows.of(pa.Table.from_batches([rows]), first, bound)
        first += rows.num_rows
    return total.among(len(with_rows))


def told_of(blocks: Sequence[EmbeddingBlock]) -> Callable[[Sequence[int]], list[dict[str, Any]]]:
    """Tells of rows as they would be read from their parts."""
    names = {"id", "source", "row_index", "n_tokens", "text"}

    def told(places: Sequence[int]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for block in blocks:
            shown = [name for name in block.rows.schema.names if name in names]
            rows += block.rows.select(shown).to_pylist()
        return [
            {
                **row,
                "text": excerpt(row.get("text", "")),
                "line": None,
                "place": f"row {row['row_index']}",
            }
            for row in (rows[place] for place in places)
        ]

    return told


def make_report(
    blocks: Sequence[EmbeddingBlock],
    dataset: dict[str, Any] | None = None,
    accounts: dict[str, int] | None = None,
    run: dict[str, Any] | None = None,
    sections: Sequence[Section[Any, Any]] = SECTIONS,
    near: NearDuplicates | str | None = None,
    drawn: DrawnMap | str | None = None,
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
        examined=examined_of(*blocks),
        near_duplicates=near,
        map=drawn,
        rows_at=told_of(blocks),
    )
    return build_report(total, facts, sections)
