"""Documents of several blocks: a version has all of their chunks, or rejects the whole document.

Blocks know nothing of each other, so a vector that is not finite, or a lost worker, makes a reject
of its own block alone. What that leaves is settled when all blocks are committed, from the records.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import NamedTuple

from pydantic import TypeAdapter

from embedkit.dataset.committed import commit_records, record_without_rows
from embedkit.dataset.finalize import runs_of
from embedkit.dataset.processes import Each, here
from embedkit.dataset.version import Version, block_order
from embedkit.errors import IntegrityError, ResumableError
from embedkit.formats.canonical import sha256
from embedkit.records import Reject
from embedkit.reports.statistics import Sidecar

_REJECT = TypeAdapter(Reject)


class _Counted(NamedTuple):
    """What a commit record counts of its block."""

    block_id: str
    documents: int
    rows: int
    rejects: int


def reject_whole_documents(version: Version, blocks: Sequence[str], each: Each = here) -> None:
    """Rejects every document of several blocks of which one block has rejected its chunks.

    Its first block then has the one reject, the first of them, and its other blocks nothing. Their
    records say so before their files go, so ``mend`` finds what is left of a run that is killed.

    Args:
        version: A version that is not complete, of which every block is committed.
        blocks: Its blocks, in order.
        each: Has runs of blocks read, here or in other processes.

    Raises:
        IntegrityError: A file is damaged.
        ResumableError: Another process does the same at this moment.
        StoreError: The store failed; the same call again is safe.
    """
    counted = chain.from_iterable(each(partial(_count, version), runs_of(blocks)))
    torn_apart = [found for found in _in_several_blocks(counted) if _is_apart(found)]
    if torn_apart:
        # It says that all it names stays.
        version.store.remove(version.growing_key)
    for found in torn_apart:
        if any(block.rejects for block in found):
            _reject(version, found)
        else:
            _take_back(version, found)


def _count(version: Version, blocks: Sequence[str]) -> list[_Counted]:
    return [
        _Counted(record.block_id, record.documents, record.rows, record.rejects)
        for record in commit_records(version, blocks)
    ]


def _in_several_blocks(records: Iterable[_Counted]) -> Iterator[list[_Counted]]:
    """Yields the blocks of each document that has more than one, in their order."""
    blocks: list[_Counted] = []
    place: tuple[int, int] | None = None
    for record in records:
        split, seq = block_order(record.block_id)
        # A document is counted in its first block, and the others follow without a gap.
        if record.documents or place != (split, seq - 1):
            if len(blocks) > 1:
                yield blocks
            blocks = []
        if record.documents or blocks:
            blocks.append(record)
        place = split, seq
    if len(blocks) > 1:
        yield blocks


def _is_apart(blocks: list[_Counted]) -> bool:
    first, *others = blocks
    if not first.rows:
        return any(one.rows or one.rejects for one in others)
    return any(block.rejects or not block.rows for block in blocks)


def _take_back(version: Version, blocks: list[_Counted]) -> None:
    """Takes back the blocks of a document that were emptied, where its reject is gone.

    Raises:
        ResumableError: Always; they are to be encoded again.
    """
    emptied = [block for block in blocks if not block.rows]
    for block in emptied:
        version.store.remove(version.commit_key(block.block_id))
        version.store.remove(version.stats_key(block.block_id))
    raise ResumableError(
        f"{version.url_of(version.commit_key(emptied[0].block_id))}: of a document that was "
        "rejected whole and is not any more; run the same command again to resume"
    )


def _reject(version: Version, blocks: list[_Counted]) -> None:
    store = version.store
    first, *others = blocks
    reject, line = _first_reject(version, blocks)
    if not first.rejects:
        store.replace(version.reject_key(first.block_id), line)
        _empty(version, first, reject, line)
    # Anew where a run was killed between the record and its part.
    store.remove(version.part_key(first.block_id))
    for block in others:
        _empty(version, block)
        store.remove(version.part_key(block.block_id))
        store.remove(version.reject_key(block.block_id))


def _empty(
    version: Version, block: _Counted, reject: Reject | None = None, line: bytes = b""
) -> None:
    rejects = () if reject is None else (reject,)
    statistics = Sidecar.of_rejects(block.block_id, block.documents, rejects).to_json()
    version.store.replace(version.stats_key(block.block_id), statistics)
    record = record_without_rows(block.block_id, block.documents, len(rejects))
    record = replace(
        record.with_statistics(statistics), rejects_sha256=sha256(line) if rejects else ""
    )
    version.store.replace(version.commit_key(block.block_id), record.to_json())


def _first_reject(version: Version, blocks: list[_Counted]) -> tuple[Reject, bytes]:
    block = next(one for one in blocks if one.rejects)
    key = version.reject_key(block.block_id)
    try:
        data = version.store.read(key)
        line = data.splitlines(keepends=True)[0]
        return _REJECT.validate_json(line), line
    except FileNotFoundError as error:
        raise ResumableError(
            f"{version.url_of(key)}: gone; run the same command again to resume"
        ) from error
    except (IndexError, ValueError) as error:
        raise IntegrityError(
            f"{version.url_of(key)}: not the rejects of its block; remove it and run the same "
            "command again, which encodes the block anew"
        ) from error
