"""One split from its files to its commit records.

    splits -> DocumentBlock -> TokenBlock -> EmbeddingBlock -> part and commit record

The Beam transforms wrap these same functions, so an engine decides where the work runs and never
what comes out.
"""

from collections.abc import Iterator

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.plan import Plan, Split
from embedkit.dataset.commit import (
    CommitRecord,
)
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.encoders.base import EncoderClient
from embedkit.flow.encode import encode_tokens
from embedkit.flow.read import read_ahead, read_pending
from embedkit.flow.tally import OnCommit
from embedkit.flow.write import write_block
from embedkit.tokens.tokenization import TextTokenizer, tokenize_text


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
    mixed_calls: bool = False,
    on_commit: OnCommit | None = None,
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
        mixed_calls: Whether a call has rows of all lengths, see ``ModelSpec.mixed_calls``.
        on_commit: Hears of each block when it is committed.

    Yields:
        A commit record per block, as soon as it stands.
    """
    pending = read_pending(split, plan, config, chunker, version)
    for documents in read_ahead(pending):
        # Without names for them, so that no block's vectors stay while the next are made.
        yield write_block(
            encode_tokens(
                tokenize_text(documents, tokenizer),
                client,
                call_tokens,
                options.vector_dtype,
                mixed_calls,
            ),
            version,
            options,
            tokenizer.max_tokens,
            on_commit,
        )
