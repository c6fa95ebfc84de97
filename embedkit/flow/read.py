"""Reading: the blocks of a split that a version does not have yet."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import Plan, Split
from embedkit.dataset.commit import end_split
from embedkit.dataset.committed import SplitEnd, standing_end, standing_record
from embedkit.dataset.identity import id_digest
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError
from embedkit.records import (
    DocumentBlock,
    Reject,
)
from embedkit.threads import GeneratorThreads


@dataclass(frozen=True)
class Claim:
    """A split that a worker was given.

    Attributes:
        split: The split.
        careful: Whether a worker was killed at it before: nothing is read ahead then, so that a
            second loss tells which block is to blame.
        quarantined: Blocks of it that killed their worker twice.
    """

    split: Split
    careful: bool = False
    quarantined: tuple[str, ...] = ()


class SplitSource(Protocol):
    """Hands out splits to one worker, and hears how far it is."""

    def claim(self) -> Claim | None:
        """Returns the next split, or None where none is left."""
        ...

    def begin(self, block_id: str | None) -> bool:
        """Says which block the worker has in hand; None while it reads.

        Returns:
            Whether to go on; a worker that is to leave gives its split back, the block with it.
        """
        ...


def read_claimed(
    source: SplitSource,
    plan: Plan,
    config: CorpusConfig,
    chunker: Chunker | None = None,
    version: Version | None = None,
) -> Iterator[DocumentBlock]:
    """Claims splits until none is left, and reads what a version does not have of them.

    Args:
        source: Where the splits come from.
        plan: The plan they belong to.
        config: How records become rows.
        chunker: Cuts documents into chunks, or None to leave them whole.
        version: The version whose committed blocks are passed over; None reads every block.

    Yields:
        The blocks. One that killed its worker twice comes without rows, all of its documents
        rejects ``worker_lost``.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    while (claim := source.claim()) is not None:
        blocks = read_pending(claim.split, plan, config, chunker, version)
        for block in blocks if claim.careful else read_ahead(blocks):
            if not source.begin(block.block_id):
                break
            yield without_documents(block) if block.block_id in claim.quarantined else block
            source.begin(None)


def without_documents(block: DocumentBlock) -> DocumentBlock:
    """Returns a block that killed its worker twice, all of its documents rejected."""
    rejects = Reject.of_rows(
        block.rows,
        "worker_lost",
        f"block {block.block_id}, of which this record is one, killed its worker twice; look for "
        "an oversized or strange record in it, or give the workers more memory",
    )
    rejects = block.rejects + tuple(map(block.numbered, rejects))
    return replace(block, rows=block.rows.slice(0, 0), rejects=rejects, nulled=())


def read_pending(
    split: Split,
    plan: Plan,
    config: CorpusConfig,
    chunker: Chunker | None = None,
    version: Version | None = None,
) -> Iterator[DocumentBlock]:
    """Reads the blocks of a split that a version does not have yet.

    Args:
        split: The split to read.
        plan: The plan it belongs to.
        config: How records become rows.
        chunker: Cuts documents into chunks, or None to leave them whole.
        version: The version whose committed blocks are passed over; None reads every block.

    Yields:
        The blocks without a commit record, in order. A split that was finished earlier is not
        opened at all.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    committed: Container[str] = () if version is None else version.committed_of(split.split_id)
    if version is not None and version.split_is_done(split.split_id, committed):
        return
    before, rows = "", 0
    for block in read_split(split, plan, config, chunker):
        if version is not None and block.continues:
            _check_continued(version, before, rows)
        before, rows = block.block_id, block.rows.num_rows
        if version is None or block.block_id not in committed:
            yield block
        elif block.last:
            end_split(version, SplitEnd.of(block))


def _check_continued(version: Version, before: str, rows: int) -> None:
    """Checks that the block before one that continues its document ends where that one begins."""
    record = standing_record(version, before)
    if record is not None and record.rows > rows:
        raise ConfigError(
            f"{version.url}: block {before} was committed by an earlier release, which kept all "
            "chunks of a document in one block; give the job another version name"
        )


def is_pending(block: DocumentBlock, version: Version) -> bool:
    """Tells whether a version does not have a block yet, which nobody read from a planned file.

    Of a block that it has, the end of its split is made good where only that is missing.

    Raises:
        ConfigError: The version has a block of other records under this block's id.
    """
    record = standing_record(version, block.block_id)
    if record is None:
        end = standing_end(version, block.split_id)
        same = end is None or block.seq < end.blocks
    else:
        # Encoding may have made rejects of some rows, whose ids the record does not tell, or of a
        # document in other blocks as well.
        same = record.documents == block.documents and (
            record.rejects != len(block.rejects)
            or (block.continues and not record.rows)
            or record.id_digest == id_digest(block.rows.column("id"))
        )
    if not same:
        raise ConfigError(
            f"{version.url}: split {block.split_id} was made of other records than these; give "
            "other records another version name"
        )
    if record is not None and block.last:
        end_split(version, SplitEnd.of(block))
    return record is None


def read_ahead(blocks: Iterator[DocumentBlock]) -> Iterator[DocumentBlock]:
    """Yields the same blocks, reading the next one in a thread while one is being worked on.

    At most one block waits, so memory grows by one block. An error of the reader is raised in its
    place among the blocks.
    """
    with GeneratorThreads(1, thread_name_prefix="read-ahead") as reader:
        waiting = reader.submit(next, blocks, None)
        while (block := waiting.result()) is not None:
            waiting = reader.submit(next, blocks, None)
            yield block
