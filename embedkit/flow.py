"""The whole flow as plain functions, without an engine.

    splits -> DocumentBlock -> TokenBlock -> EmbeddingBlock -> part and commit record

The Beam transforms wrap these same functions, so an engine decides where the work runs and never
what comes out.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.config import CorpusConfig
from embedkit.corpus.chunking import Chunker
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import Plan, Split
from embedkit.dataset.commit import (
    CommitRecord,
    commit_block,
    end_split,
    standing_end,
    standing_record,
)
from embedkit.dataset.identity import id_digest
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.encoders.base import EncoderClient
from embedkit.errors import ConfigError
from embedkit.records import (
    DocumentBlock,
    EmbeddingBlock,
    Reject,
    TokenBatch,
    TokenBlock,
    embedding_type,
)
from embedkit.reports.quality import BlockStatistics
from embedkit.tokens.tokenization import TextTokenizer, tokenize_text

_MOST_CALL_ROWS = 4096


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
    if version is not None and version.split_is_done(split.split_id):
        return
    before, rows = "", 0
    for block in read_split(split, plan, config, chunker):
        if version is not None and block.continues:
            _check_continued(version, before, rows)
        before, rows = block.block_id, block.rows.num_rows
        if version is None or not version.is_committed(block.block_id):
            yield block
        elif block.last:
            end_split_of(block, version)


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
        end_split_of(block, version)
    return record is None


def read_ahead(blocks: Iterator[DocumentBlock]) -> Iterator[DocumentBlock]:
    """Yields the same blocks, reading the next one in a thread while one is being worked on.

    At most one block waits, so memory grows by one block. An error of the reader is raised in its
    place among the blocks.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        waiting = reader.submit(next, blocks, None)
        while (block := waiting.result()) is not None:
            waiting = reader.submit(next, blocks, None)
            yield block


def call_batches(
    batch: TokenBatch, call_tokens: int, mixed: bool = False
) -> Iterator[tuple[NDArray[np.intp], TokenBatch]]:
    """Cuts rows into encoder calls: of similar lengths, longest first, or each of all lengths.

    A call has at most 4,096 rows: of very short rows it would bring back more bytes of vectors
    than are worth holding, in the encoder, on the way and here.

    Args:
        batch: Rows in any order.
        call_tokens: Most tokens of a call; a longer row is a call of its own.
        mixed: Whether every call is to have rows of all lengths, as encoders that pack rows want
            it. Calls with room for no more than a few rows are cut by length all the same.

    Yields:
        Row numbers and their tokens, so that every row is in exactly one call. The cut depends on
        the rows alone, so a repeated block is padded, and therefore encoded, as it was before.
    """
    lengths = batch.lengths
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order], dtype=np.int64)
    if mixed and len(order) and (longest := int(lengths[order[0]])) <= call_tokens // 2:
        # Dealt in turn, no call has more than its share and the longest row on top.
        by_tokens = -(-int(ends[-1]) // (call_tokens - longest))
        calls = max(1, by_tokens, -(-len(order) // _MOST_CALL_ROWS))
        for first in range(calls):
            yield order[first::calls], batch.take(order[first::calls])
        return
    start = 0
    while start < len(order):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + call_tokens, side="right")))
        stop = min(stop, start + _MOST_CALL_ROWS)
        rows = order[start:stop]
        yield rows, batch.take(rows)
        start = stop


def encode_tokens(
    block: TokenBlock, client: EncoderClient, call_tokens: int, vector_dtype: str = "float32"
) -> EmbeddingBlock:
    """Encodes a block; equal texts are encoded once.

    Args:
        block: Rows with their token ids.
        client: Reaches the encoders.
        call_tokens: Most tokens that one call carries.
        vector_dtype: Stored type of the vectors, ``float32`` or ``float16``.

    Returns:
        The rows with their vectors. A document with a vector that is not finite is a reject
        ``non_finite_vector`` instead, with all of its chunks.

    Raises:
        EncoderError: No encoder answered.
    """
    rows = block.rows
    if rows.num_rows == 0:
        vectors = np.empty((0, 1), dtype=np.float32)
    else:
        vectors = _encode_rows(rows, client, call_tokens)
    with np.errstate(over="ignore"):
        # A component too large for float16 becomes infinite, and its document a reject.
        vectors = vectors.astype(vector_dtype, copy=False)
    # A sum in float64 cannot overflow, and one number per row takes no memory.
    finite: NDArray[np.bool_] = np.isfinite(vectors.sum(axis=1, dtype=np.float64))
    rejects = block.rejects
    if not finite.all():
        rows, vectors, spoiled = _without_spoiled_documents(rows, vectors, finite)
        rejects += tuple(map(block.numbered, spoiled))
    index = rows.schema.get_field_index("input_ids")
    flat = pa.array(vectors.reshape(-1))
    kind = embedding_type(vectors.shape[1], vector_dtype)
    embedded = rows.set_column(
        index,
        pa.field("embedding", kind, nullable=False),
        pa.FixedSizeListArray.from_arrays(flat, type=kind),
    )
    return block.into(EmbeddingBlock, embedded, rejects)


def _encode_rows(
    rows: pa.RecordBatch, client: EncoderClient, call_tokens: int
) -> NDArray[np.float32]:
    codes = pc.dictionary_encode(rows.column("text_hash")).indices.to_numpy()
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    column = rows.column("input_ids")
    batch = TokenBatch(
        column.flatten().to_numpy(zero_copy_only=True),
        (column.offsets.to_numpy() - column.offsets[0].as_py()).astype(np.int32, copy=False),
    )
    if len(first) < len(batch):
        batch = batch.take(first)
    places: list[NDArray[np.intp]] = []

    def calls() -> Iterator[TokenBatch]:
        for place, call in call_batches(batch, call_tokens, client.packs):
            places.append(place)
            yield call

    encoded: NDArray[np.float32] | None = None
    for number, vectors in enumerate(client.encode_all(calls())):
        if encoded is None:
            encoded = np.empty((len(batch), vectors.shape[1]), dtype=np.float32)
        encoded[places[number]] = vectors
    assert encoded is not None, "a block with rows makes at least one call"
    return encoded if len(first) == len(inverse) and (first == inverse).all() else encoded[inverse]


def _without_spoiled_documents(
    rows: pa.RecordBatch, vectors: NDArray[np.float32], finite: NDArray[np.bool_]
) -> tuple[pa.RecordBatch, NDArray[np.float32], tuple[Reject, ...]]:
    spoiled = pc.unique(rows.column("doc_id").filter(pa.array(~finite)))
    keep = pc.invert(pc.is_in(rows.column("doc_id"), value_set=spoiled))
    rejects = Reject.of_rows(
        rows.filter(pc.invert(keep)),
        "non_finite_vector",
        "the vector of this text is not finite, even computed alone in float32, or does not fit "
        f"into {vectors.dtype}; check the text, the model or --vector-dtype",
    )
    return rows.filter(keep), vectors[keep.to_numpy(zero_copy_only=False)], rejects


def write_block(
    block: EmbeddingBlock, version: Version, options: PartOptions, max_tokens: int
) -> CommitRecord:
    """Writes and commits a block, with its statistics beside it.

    Args:
        block: The block with its vectors.
        version: Where it goes.
        options: How parts are written.
        max_tokens: Tokens of a row that the model saw at most.

    Returns:
        The commit record that stands in the version now, this attempt's or an earlier one's.

    Raises:
        StoreError: The store failed.
        IntegrityError: An earlier attempt left something that does not validate.
    """
    if not options.excerpts:
        rejects = tuple(replace(reject, excerpt="") for reject in block.rejects)
        block = replace(block, rejects=rejects)
    statistics = BlockStatistics.of(block, max_tokens, options.excerpts).to_json()
    record = commit_block(version, block, options, max_tokens, statistics)
    if block.last:
        end_split_of(block, version)
    return record


def end_split_of(block: DocumentBlock | EmbeddingBlock, version: Version) -> None:
    """Records that a split ends with this block, which must be its last."""
    documents = block.documents_before + block.documents
    end_split(version, block.split_id, block.seq + 1, documents, block.lines)


def embed_split(
    split: Split,
    plan: Plan,
    config: CorpusConfig,
    chunker: Chunker | None,
    tokenizer: TextTokenizer,
    client: EncoderClient,
    call_tokens: int,
    version: Version,
    options: PartOptions,
) -> Iterator[CommitRecord]:
    """Takes one split from its files to its commit records: the diagram as a function.

    Args:
        split: The split to embed.
        plan: The plan it belongs to.
        config: How records become rows.
        chunker: Cuts documents into chunks, or None.
        tokenizer: The model's tokenizer.
        client: Reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        version: Where the blocks go; what it has committed is passed over.
        options: How parts are written.

    Yields:
        A commit record per block, as soon as it stands.
    """
    pending = read_pending(split, plan, config, chunker, version)
    for documents in read_ahead(pending):
        # Without names for them, so that no block's vectors stay while the next are made.
        yield write_block(
            encode_tokens(
                tokenize_text(documents, tokenizer), client, call_tokens, options.vector_dtype
            ),
            version,
            options,
            tokenizer.max_tokens,
        )
