"""Splits to DocumentBlocks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import chunk_documents
from embedkit.corpus.plan import Plan, Split, plan_inputs
from embedkit.dataset.version import Version
from embedkit.errors.wrong_kinds import check_kind
from embedkit.flow.check_ids import take_published_hashes, with_known_duplicates
from embedkit.flow.copy_split import copy_split
from embedkit.flow.prepare import Draft, Job
from embedkit.flow.read import SplitSource, read_ahead, read_claimed, read_pending
from embedkit.records import DocumentBlock
from embedkit.transforms.blocks import BlockTransform, ChunkingFn, MakeChunker, check_begins
from embedkit.transforms.check_ids import CheckIds


class _ReadFn(ChunkingFn):
    """A DoFn that reads splits."""

    def __init__(
        self,
        plan: Plan,
        corpus: CorpusConfig,
        make_chunker: MakeChunker | None,
        version: Version | None,
    ) -> None:
        super().__init__(make_chunker)
        self._plan = plan.without_splits()
        self._corpus = corpus
        self._version = version


class _ReadSplit(_ReadFn):
    def __init__(
        self,
        plan: Plan,
        corpus: CorpusConfig,
        make_chunker: MakeChunker | None,
        version: Version | None,
        draft: Draft | None,
    ) -> None:
        super().__init__(plan, corpus, make_chunker, version)
        self._draft = draft and replace(draft, plan=draft.plan.without_splits())

    def process(self, split: Split) -> Iterator[DocumentBlock]:
        if self._draft is not None and copy_split(split, self._draft):
            return
        yield from read_ahead(
            read_pending(split, self._plan, self._corpus, self.chunker, self._version)
        )


@dataclass
class ReadCorpus(BlockTransform):
    """Pipeline -> DocumentBlocks of a corpus.

        >>> import apache_beam as beam
        >>> from embedkit import CorpusConfig, ReadCorpus
        >>> with beam.Pipeline() as pipeline:
        ...     blocks = pipeline | ReadCorpus(CorpusConfig(inputs=("docs.jsonl",), id_column="id"))
        ...     _ = blocks | beam.Map(lambda block: print(block.rows["id"].to_pylist()))
        ['fox', 'vectors', 'rain']

    Attributes:
        corpus: What to read, and how records become rows.
        plan: Its splits; made from ``corpus`` when the transform is applied, unless given.
        make_chunker: Makes the chunker in each worker, or None to leave documents whole.
        version: Blocks that this version has committed are not read again.
        hints: Beam's resource hints for the reading step; those of the steps that follow, where
            they are to stay on one worker with it.
        draft: Settles ``version``; splits that its earlier version has as they are now are copied
            from there, and nothing is read of them.
    """

    corpus: CorpusConfig
    plan: Plan | None = None
    make_chunker: MakeChunker | None = None
    version: Version | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
    draft: Draft | None = None

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Spreads the splits over the workers and reads them there."""
        check_kind("corpus", self.corpus, CorpusConfig)
        check_begins("ReadCorpus", pipeline)
        plan = self.plan or plan_inputs(self.corpus)
        if self.version is not None:
            # Of a complete version nothing is read.
            known = with_known_duplicates(plan, self.corpus, self.version)
            plan = known or (plan.with_duplicates({}) if self.version.is_complete() else plan)
            if not plan.ids_checked:
                reuse = None if self.draft is None else self.draft.reuse
                earlier = None if reuse is None else reuse.version
                take_published_hashes(plan, self.corpus, self.version, earlier)
        if plan.ids_checked:
            splits = (
                pipeline
                | "Splits" >> beam.Create(plan.splits, reshuffle=False)
                | "Spread" >> beam.Reshuffle()
            )
        else:
            splits = pipeline | "CheckIds" >> CheckIds(plan, self.corpus, self.version)
        checked = plan.without_splits().with_duplicates({})
        read = _ReadSplit(checked, self.corpus, self.make_chunker, self.version, self.draft)
        return splits | "ReadSplit" >> beam.ParDo(read).with_output_types(
            DocumentBlock
        ).with_resource_hints(**self.hints)


class _ReadClaimed(_ReadFn):
    # Beam compares the annotation with the element's type, which it cannot for a Protocol.
    def process(self, source: Any) -> Iterator[DocumentBlock]:
        yield from read_claimed(source, self._plan, self._corpus, self.chunker, self._version)


@dataclass
class ReadClaimed(BlockTransform):
    """Pipeline -> DocumentBlocks of the splits that a shared queue hands to this pipeline's worker.

    Several pipelines of one worker each may share a queue: a fast worker then takes more splits
    than a slow one, which a pipeline that divides its elements beforehand cannot do.

    Attributes:
        source: The worker's way to the queue; picklable.
        job: The job that the splits are of; what its version has committed is not read again.
    """

    source: SplitSource
    job: Job

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Reads until the queue is empty."""
        job = self.job
        read = _ReadClaimed(job.plan, job.config, job.make_chunker, job.version)
        return (
            pipeline
            | "Queue" >> beam.Create([self.source], reshuffle=False)
            | "ReadClaimed" >> beam.ParDo(read).with_output_types(DocumentBlock)
        )


class _Chunk(ChunkingFn):
    def process(self, block: DocumentBlock) -> Iterator[DocumentBlock]:
        if self.chunker is not None:
            block = block.with_rows(chunk_documents(block.rows, self.chunker))
        yield block


@dataclass
class ChunkDocuments(BlockTransform):
    """DocumentBlocks -> DocumentBlocks whose rows are chunks; a block stays one block.

    ``ReadCorpus`` with a chunker also keeps the number of chunks in a block within ``block_rows``,
    which this transform, that sees a block at a time, cannot.

    Attributes:
        make_chunker: Makes the chunker in each worker.
    """

    make_chunker: MakeChunker

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        chunk = beam.ParDo(_Chunk(self.make_chunker)).with_output_types(DocumentBlock)
        return blocks | "Chunk" >> chunk
