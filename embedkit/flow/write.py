"""Writing: parts, their statistics and their commit records."""

from dataclasses import replace

from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.flow.tally import OnCommit
from embedkit.reports.statistics import Sidecar
from embedkit.vectors import EmbeddingBlock


def write_embeddings(
    block: EmbeddingBlock,
    version: Version,
    options: PartOptions,
    max_tokens: int,
    on_commit: OnCommit | None = None,
) -> CommitRecord:
    """Writes and commits a block, with its statistics beside it.

    Args:
        block: The block with its vectors.
        version: Where it goes.
        options: How parts are written.
        max_tokens: Tokens of a row that the model saw at most.
        on_commit: Hears of the block when it is committed.

    Returns:
        The commit record that stands in the version now, this attempt's or an earlier one's.

    Raises:
        StoreError: The store failed.
        IntegrityError: An earlier attempt left something that does not validate.
    """
    if not options.excerpts:
        rejects = tuple(replace(reject, excerpt="") for reject in block.rejects)
        block = replace(block, rejects=rejects)
    keep_texts = options.excerpts and not options.store_text
    sidecar = Sidecar.of(block, max_tokens, keep_texts).to_json()
    record = commit_block(version, block, options, max_tokens, sidecar)
    if on_commit is not None:
        on_commit(block, record)
    return record
