"""Splits from a queue that workers share, to DocumentBlocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.plan import Plan
from embedkit.dataset.version import Version
from embedkit.flow.read import SplitSource, read_claimed
from embedkit.records import DocumentBlock
from embedkit.transforms.blocks import BlockTransform


class _ReadClaimed(beam.DoFn):
    def __init__(
        self,
        plan: Plan,
        corpus: CorpusConfig,
        make_chunker: Callable[[], Chunker | None] | None,
        version: Version,
    ) -> None:
        self._plan = plan.without_splits()
        self._corpus = corpus
        self._make_chunker = make_chunker
        self._version = version
        self._chunker: Chunker | None = None

    def setup(self) -> None:
        if self._make_chunker is not None:
            self._chunker = self._make_chunker()

    # Beam compares the annotation with the element's type, which it cannot for a Protocol.
    def process(self, source: Any) -> Iterator[DocumentBlock]:
        yield from read_claimed(source, self._plan, self._corpus, self._chunker, self._version)


@dataclass
class ReadClaimed(BlockTransform):
    """Pipeline -> DocumentBlocks of the splits that a shared queue hands to this pipeline's worker.

    Several pipelines of one worker each may share a queue: a fast worker then takes more splits
    than a slow one, which a pipeline that divides its elements beforehand cannot do.

    Attributes:
        source: The worker's way to the queue; picklable.
        corpus: How records become rows.
        plan: The plan that the splits belong to.
        version: Blocks that this version has committed are not read again.
        make_chunker: Makes the chunker in the worker, or None to leave documents whole.
    """

    source: SplitSource
    corpus: CorpusConfig
    plan: Plan
    version: Version
    make_chunker: Callable[[], Chunker | None] | None = None

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Reads until the queue is empty."""
        read = _ReadClaimed(self.plan, self.corpus, self.make_chunker, self.version)
        return (
            pipeline
            | "Queue" >> beam.Create([self.source], reshuffle=False)
            | "ReadClaimed" >> beam.ParDo(read).with_output_types(DocumentBlock)
        )
