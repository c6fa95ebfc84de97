"""The flow from files or documents to commit records.

    splits -> DocumentBlock -> TokenBlock -> EmbeddingBlock -> part and commit record

The Beam transforms wrap these same functions, so an engine decides where the work runs and never
what comes out.
"""

from collections.abc import Iterable, Iterator

from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.base import EncoderClient
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.encode import encode_tokens
from embedkit.flow.prepare import Draft, Job
from embedkit.flow.read import read_ahead, read_pending
from embedkit.flow.tally import OnCommit
from embedkit.flow.write import write_embeddings
from embedkit.records import DocumentBlock
from embedkit.tokens.pairs import load_row_tokenizer, tokenize_rows


def embed_splits(
    splits: Iterable[Split], job: Job, client: EncoderClient, on_commit: OnCommit | None = None
) -> Iterator[CommitRecord]:
    """Takes splits from their files to their commit records, one after the other.

    Args:
        splits: The splits, or those of them that are left to do.
        job: The settled job; what its version has committed is passed over.
        client: Reaches the encoders.
        on_commit: Hears of each block when it is committed.

    Yields:
        A commit record per block, as soon as it stands.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
        EncoderError: No encoder answered.
        StoreError: The store failed.
    """
    chunker = job.make_chunker() if job.make_chunker else None
    blocks = (
        block
        for split in splits
        for block in read_ahead(read_pending(split, job.plan, job.config, chunker, job.version))
    )
    return embed_blocks(blocks, job, client, job.config.call_tokens, on_commit)


def embed_blocks(
    blocks: Iterable[DocumentBlock],
    draft: Draft,
    client: EncoderClient,
    call_tokens: int,
    on_commit: OnCommit | None = None,
) -> Iterator[CommitRecord]:
    """Takes blocks of documents to their commit records: tokenize, encode, write.

    Args:
        blocks: Blocks that the version does not have yet.
        draft: The version to be made.
        client: Reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        on_commit: Hears of each block when it is committed.

    Yields:
        A commit record per block, as soon as it stands.
    """
    tokenizer = load_row_tokenizer(draft.model.tokenizer)
    earlier = None if draft.reuse is None else EarlierRows(draft.reuse)
    for documents in blocks:
        # Without names for them, so that no block's vectors stay while the next are made.
        yield write_embeddings(
            encode_tokens(
                tokenize_rows(documents, tokenizer),
                client,
                call_tokens,
                draft.options.vector_dtype,
                draft.model.mixed_calls,
                draft.model.vectors,
                earlier,
                draft.calibration,
            ),
            draft.version,
            draft.options,
            tokenizer.max_tokens,
            on_commit,
        )
