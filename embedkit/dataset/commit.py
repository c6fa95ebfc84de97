"""The commit of a block: its part, its sidecars and, last, the record that makes it count.

Every object is created only if absent and never changed, so attempts at one block may run one
after the other or at once, and be killed anywhere: what the first of them created stays, and the
others build on it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.dataset.committed import (
    CommitRecord,
    SplitEnd,
    record_without_rows,
    standing_record,
)
from embedkit.dataset.identity import id_digest
from embedkit.dataset.parquet import part_table, read_table, reused_in, write_part
from embedkit.dataset.record import REDO
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.sources import count_sources
from embedkit.dataset.stores import create
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import load_json, sha256
from embedkit.records import n_unknown
from embedkit.vectors import EmbeddingBlock, stored_as, stored_of, value_column


def commit_block(
    version: Version, block: EmbeddingBlock, options: PartOptions, max_tokens: int, stats: bytes
) -> CommitRecord:
    """Writes a block's part, rejects and statistics, commits them, and ends its split with it.

    Args:
        version: Where it goes.
        block: The block with its vectors; it may have been committed, wholly or in part, before.
        options: How parts are written.
        max_tokens: Tokens of a row that the model saw at most.
        stats: The block's statistics, serialized.

    Returns:
        The commit record that stands, this attempt's or an earlier one's.

    Raises:
        IntegrityError: The block does not account for its documents, or something that an
            earlier attempt left is damaged or of another block, or the split ended otherwise.
        StoreError: The store failed; the same call again is safe.
    """
    record = standing_record(version, block.block_id) or _commit(
        version, block, options, max_tokens, stats
    )
    if block.last:
        end_split(version, SplitEnd.of(block))
    return record


def _commit(
    version: Version, block: EmbeddingBlock, options: PartOptions, max_tokens: int, stats: bytes
) -> CommitRecord:
    record = _account(block, max_tokens)
    if record.rows:
        record = _with_part(record, version, block, options)
    elif version.store.size(version.part_key(block.block_id)) is not None:
        raise IntegrityError(
            f"{version.url_of(version.part_key(block.block_id))}: a part of a block that has no "
            f"rows; {REDO}"
        )
    lines = "".join(json.dumps(asdict(reject), sort_keys=True) + "\n" for reject in block.rejects)
    return commit_record(version, record, lines.encode(), stats)


def commit_record(
    version: Version, record: CommitRecord, rejects: bytes, stats: bytes
) -> CommitRecord:
    """Writes what stands beside the part of a block and, last, its commit record.

    Args:
        version: The version, which has the part.
        record: The record, but for the checksums of the two other files.
        rejects: The block's rejects, a JSON object per line; empty where it has none.
        stats: Its statistics, serialized.

    Returns:
        The record that stands, this attempt's or another's.

    Raises:
        IntegrityError: Something that another attempt left is of another block.
        StoreError: The store failed; the same call again is safe.
    """
    key = version.commit_key(record.block_id)
    if rejects:
        kept = _create_rejects(version, record.block_id, rejects)
        record = replace(record, rejects_sha256=sha256(kept))
    record = record.with_statistics(_create_statistics(version, record, stats))
    if create(version.store, key, record.to_json()):
        return record
    standing = CommitRecord.from_json(version.store.read(key), version.url_of(key))
    if _is_emptied(standing, record):
        # Its document was rejected whole, with other blocks of it, while this attempt went on.
        version.store.remove(version.part_key(record.block_id))
        if not standing.rejects:
            version.store.remove(version.reject_key(record.block_id))
        return standing
    if standing != record:
        raise IntegrityError(
            f"{version.url_of(key)}: says other than the same block does when it is encoded again; "
            f"remove it and its part, then run the same command again"
        )
    return standing


def _is_emptied(standing: CommitRecord, ours: CommitRecord) -> bool:
    """Whether the record that stands is that of a block whose document was rejected whole."""
    return (
        standing.documents == ours.documents
        and not standing.rows
        and (ours.rows > 0 or ours.rejects > standing.rejects)
    )


def end_split(version: Version, end: SplitEnd) -> None:
    """Records that a split was read to its end.

    Args:
        version: Where its blocks go.
        end: What it consists of.

    Raises:
        IntegrityError: An earlier attempt found another number of blocks or documents.
        StoreError: The store failed; the same call again is safe.
    """
    key = version.split_key(end.split_id)
    if create(version.store, key, end.to_json()):
        return
    standing = SplitEnd.from_json(version.store.read(key), version.url_of(key))
    if replace(standing, lines=end.lines) != end:
        raise IntegrityError(
            f"{version.url_of(key)}: says {standing.blocks} blocks and {standing.documents} "
            f"documents, this attempt read {end.blocks} and {end.documents}; the input has "
            "changed since, so give the job another version name"
        )


def _account(block: EmbeddingBlock, max_tokens: int) -> CommitRecord:
    rows = block.rows
    n_tokens = rows.column("n_tokens").to_numpy().astype(np.int64)
    tokens = np.minimum(n_tokens, max_tokens)
    embedded = pc.count_distinct(rows.column("doc_id")).as_py()
    if embedded + len(block.rejects) != block.documents + block.continues:
        raise IntegrityError(
            f"block {block.block_id}: {block.documents} documents came in, but {embedded} are in "
            f"its rows and {len(block.rejects)} in its rejects; this is a fault in a step before"
        )
    if pc.count_distinct(rows.column("id")).as_py() != rows.num_rows:
        raise IntegrityError(
            f"block {block.block_id}: an id occurs twice; without unique ids in the input, leave "
            "the id column out"
        )
    sources, source_range = count_sources(rows.column("source"))
    return replace(
        record_without_rows(block.block_id, block.documents, len(block.rejects)),
        rows=rows.num_rows,
        id_digest=id_digest(rows.column("id")),
        tokens=int(tokens.sum()),
        n_tokens=int(n_tokens.sum()),
        tokens_encoded=block.tokens_encoded,
        truncated=int(pc.sum(rows.column("truncated")).as_py() or 0),
        n_unknown=n_unknown(rows),
        nulled=sum(one.count for one in block.nulled),
        sources=sources,
        source_range=source_range,
        reused=block.reused,
    )


def _with_part(
    record: CommitRecord, version: Version, block: EmbeddingBlock, options: PartOptions
) -> CommitRecord:
    key = version.part_key(block.block_id)
    data = write_part(block, options)
    if not create(version.store, key, data):
        stored = version.store.read(key)
        if stored != data:
            ours = part_table(block, options)
            theirs = check_same_rows(stored, version.url_of(key), ours)
            if not np.array_equal(stored_of(theirs).values, stored_of(ours).values):
                # That attempt may have encoded what this one took over.
                record = replace(record, reused=reused_in(theirs.schema, key, REDO))
            data = stored
    part = key.removeprefix(version.key(""))
    return replace(record, part=part, size=len(data), sha256=sha256(data))


def check_same_rows(stored: bytes, name: str, ours: pa.Table) -> pa.Table:
    """Checks a part that another attempt left: vectors may differ as hardware does, no more.

    Args:
        stored: Its bytes.
        name: What an error calls it.
        ours: What this attempt would have written.

    Returns:
        Its rows.

    Raises:
        IntegrityError: It is of other rows, or of another recipe.
    """
    theirs = read_table(stored, name, remedy=REDO)
    values = value_column(ours.schema)
    fault = None
    if not theirs.schema.equals(ours.schema):
        fault = "its columns differ"
    elif not _same_recipe(theirs.schema.metadata or {}, ours.schema.metadata or {}):
        fault = "its fingerprint differs"
    elif not theirs.drop_columns([values]).equals(ours.drop_columns([values])):
        fault = "its rows differ"
    else:
        found = stored_of(theirs)
        if not np.isfinite(found.values).all():
            fault = "its vectors are not finite"
        elif not np.array_equal(found.counts, stored_of(ours).counts):
            fault = "the number of its rows' vectors differs"
        elif not stored_as(theirs.schema).is_as(stored_as(ours.schema)):
            fault = "the calibration of its codes differs"
    if fault is not None:
        raise IntegrityError(
            f"{name}: left by another attempt at the block, but {fault} from this one's; {REDO}"
        )
    return theirs


def _same_recipe(theirs: Mapping[bytes, bytes], ours: Mapping[bytes, bytes]) -> bool:
    """Whether two parts are of one recipe; that of a copied one may have another precision."""
    recipe, fingerprint = b"embedkit.recipe", b"embedkit.fingerprint"
    key = recipe if recipe in theirs and recipe in ours else fingerprint
    return theirs.get(key) == ours.get(key)


def _create_rejects(version: Version, block_id: str, data: bytes) -> bytes:
    """Returns the rejects that stand, this attempt's or an earlier one's."""
    key = version.reject_key(block_id)
    if create(version.store, key, data):
        return data
    stored = version.store.read(key)
    if stored != data and _places(stored) != _places(data):
        raise IntegrityError(
            f"{version.url_of(key)}: left by another attempt at the block, but names other records "
            f"than this one rejects; {REDO}"
        )
    return stored


def _create_statistics(version: Version, record: CommitRecord, stats: bytes) -> bytes:
    """Returns the statistics that stand, this attempt's or an earlier one's."""
    key = version.stats_key(record.block_id)
    if create(version.store, key, stats):
        return stats
    stored = version.store.read(key)
    if _are_of(stored, record):
        return stored
    # Of the block while its document was rejected whole, which it is not any more.
    version.store.replace(key, stats)
    return stats


def _are_of(stats: bytes, record: CommitRecord) -> bool:
    try:
        said = load_json(stats)
    except ValueError:
        return False
    counts = {"documents": record.documents, "rows": record.rows}
    return isinstance(said, dict) and all(said.get(name, n) == n for name, n in counts.items())


def _places(lines: bytes) -> list[tuple[str, int]] | None:
    try:
        rejects = [load_json(line) for line in lines.splitlines()]
        return sorted((reject["source"], reject["row_index"]) for reject in rejects)
    except (ValueError, KeyError, TypeError):
        return None
