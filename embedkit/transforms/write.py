"""EmbeddingBlocks to committed parts, and which blocks need not come that far."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics import Metrics

from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.flow.read import is_pending
from embedkit.flow.tally import OnCommit
from embedkit.flow.write import write_embeddings
from embedkit.records import DocumentBlock
from embedkit.transforms.blocks import BlockTransform
from embedkit.vectors import EmbeddingBlock


class _Write(beam.DoFn):
    def __init__(
        self,
        version: Version,
        options: PartOptions,
        max_tokens: int,
        on_commit: OnCommit | None,
    ) -> None:
        self._on_commit = on_commit
        self._version = version
        self._options = options
        self._max_tokens = max_tokens
        self._rows = Metrics.counter("embedkit", "rows")
        self._rejects = Metrics.counter("embedkit", "rejects")

    def process(self, block: EmbeddingBlock) -> Iterator[CommitRecord]:
        record = write_embeddings(
            block, self._version, self._options, self._max_tokens, self._on_commit
        )
        self._rows.inc(record.rows)
        self._rejects.inc(record.rejects)
        yield record


@dataclass
class WriteEmbeddings(BlockTransform):
    """EmbeddingBlocks -> CommitRecords, each emitted when its block is committed.

    A block is committed inside ``process``, so a bundle that runs twice, or twice at once, writes
    nothing twice.

    Attributes:
        version: Where the parts go.
        options: How they are written.
        max_tokens: Tokens of a row that the model saw at most.
        on_commit: Picklable; hears of each block when it is committed, in its worker.
    """

    version: Version
    options: PartOptions
    max_tokens: int
    on_commit: OnCommit | None = None

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        write = _Write(self.version, self.options, self.max_tokens, self.on_commit)
        return blocks | "Write" >> beam.ParDo(write).with_output_types(CommitRecord)


class _Pending(beam.DoFn):
    def __init__(self, version: Version) -> None:
        self._version = version

    def process(self, block: DocumentBlock) -> Iterator[DocumentBlock]:
        if is_pending(block, self._version):
            yield block


@dataclass
class SkipCommitted(BlockTransform):
    """DocumentBlocks -> those of them that a version does not have yet.

    Attributes:
        version: The version.
    """

    version: Version

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        pending = beam.ParDo(_Pending(self.version)).with_output_types(DocumentBlock)
        return blocks | "Pending" >> pending
