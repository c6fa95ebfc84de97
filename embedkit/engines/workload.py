"""What a run has to do, told from a plan and a sample, for as many documents as there will be."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from embedkit.config import JobConfig
from embedkit.corpus.plan import MOST_FILES_OF_A_SPLIT, CorpusEstimate, FileRange, Plan, Split
from embedkit.dataset.store_keys import is_local
from embedkit.engines import measured_rates as rates
from embedkit.engines.store_requests import StoredWork
from embedkit.errors import InputError
from embedkit.flow.near_duplicates import compares_rows

_FILL: Final = 0.75
"""Of a split of small files, which ends somewhere in its second half."""


@dataclass(frozen=True)
class Workload(StoredWork):
    """What a run has to do.

    Attributes:
        documents: Input records.
        rows: Rows.
        tokens: Tokens that the model sees.
        vectors: Vectors.
        vector_bytes: Their bytes.
        text_bytes: Bytes of texts that are stored beside them.
        compared: Whether near duplicates are looked for among all rows.
        remote_inputs: Whether the inputs are on a store.
        remote_output: Whether the version is.
    """

    documents: int
    rows: int
    tokens: int
    vectors: int
    vector_bytes: int
    text_bytes: int
    compared: bool
    remote_inputs: bool
    remote_output: bool

    @property
    def stored_bytes(self) -> int:
        """Bytes of the version, metadata columns left out."""
        ids = rates.ID_BYTES_PER_RECORD * self.documents if self.looks_at_ids else 0
        rows = rates.PART_BYTES_PER_ROW * self.rows
        blocks = rates.BYTES_PER_BLOCK * self.blocks
        return self.vector_bytes + self.text_bytes + rows + blocks + ids


@dataclass(frozen=True)
class PerDocument:
    """What becomes of a document that can be embedded.

    Attributes:
        rows: Its rows.
        vectors: Its vectors.
        bytes_per_vector: What one of them takes.
        one_vector: Whether each row has exactly one.
        text_share: What its text takes beside them, as a share of its bytes; 0 where it is not
            stored.
    """

    rows: float
    vectors: float
    bytes_per_vector: int
    one_vector: bool
    text_share: float


def workload_of(
    plan: Plan,
    found: CorpusEstimate,
    config: JobConfig,
    per_document: PerDocument,
    documents: int | None = None,
) -> Workload:
    """Returns what a run has to do.

    Args:
        plan: The plan of the inputs.
        found: What a sample of them tells.
        config: The job, with the size of blocks settled.
        per_document: What becomes of a document.
        documents: Records of the corpus, of which the inputs are a sample; those of the inputs
            unless given.

    Raises:
        InputError: There is none that could tell of others.
    """
    if documents is not None and not found.records:
        raise InputError("no records in the inputs, so they tell nothing of others; give some")
    factor = 1.0 if documents is None else documents / found.records
    # Of a trial's files, what its records stand in.
    stored = sum(piece.stored for piece in _ranges(plan.splits))
    share = found.read_bytes / stored if stored else 1.0
    splits = len(plan.splits)
    if documents is not None:
        splits = _splits(plan, config.split_bytes, factor * share)
    embedded = found.documents * factor
    rows = round(embedded * per_document.rows)
    rejects = round((found.records - found.documents) * factor)
    text_bytes = round(found.text_bytes * factor)
    each = max((rows + rejects) / config.block_rows, text_bytes / config.block_bytes) / splits
    blocks = splits * max(1, math.ceil(each))
    return Workload(
        files=math.ceil(plan.files * factor * share),
        formats=_formats(plan.splits),
        input_bytes=round(plan.total_bytes * factor * share),
        splits=splits,
        blocks=blocks,
        rejecting_blocks=min(blocks, rejects),
        block_rows=rows / blocks,
        looks_at_ids=config.id_column is not None,
        documents=documents or found.records,
        rows=rows,
        tokens=round(found.tokens * factor),
        vectors=round(embedded * per_document.vectors),
        vector_bytes=round(embedded * per_document.vectors * per_document.bytes_per_vector),
        text_bytes=round(text_bytes * per_document.text_share),
        compared=per_document.one_vector and compares_rows(config, rows),
        remote_inputs=not all(os.path.isabs(one.url) for one in _ranges(plan.splits)),
        remote_output=not is_local(config.output),
    )


def _splits(plan: Plan, split_bytes: int, factor: float) -> int:
    """Returns how many splits so many times the inputs have.

    Those that are full tell of others; the last one of a few small files tells nothing.
    """
    stored = [sum(piece.stored for piece in split.ranges) for split in plan.splits]
    full = [
        size
        for size, split in zip(stored, plan.splits, strict=True)
        if 2 * size >= split_bytes or 2 * len(split.ranges) >= MOST_FILES_OF_A_SPLIT
    ]
    if full:
        return max(1, math.ceil(factor * sum(stored) * len(full) / max(1, sum(full))))
    by_bytes = factor * sum(stored) / (_FILL * split_bytes)
    by_files = factor * plan.files / (_FILL * MOST_FILES_OF_A_SPLIT)
    return max(1, math.ceil(max(by_bytes, by_files)))


def _formats(splits: Sequence[Split]) -> dict[str, float]:
    files = {piece.source: piece.format for piece in _ranges(splits)}
    return {name: count / len(files) for name, count in Counter(files.values()).items()}


def _ranges(splits: Sequence[Split]) -> list[FileRange]:
    return [piece for split in splits for piece in split.ranges]
