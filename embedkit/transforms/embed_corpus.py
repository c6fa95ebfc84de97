"""The whole flow as one transform."""

from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from embedkit.config import CorpusConfig, EngineConfig, ModelConfig, OutputConfig, RecordConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.plan import Plan, plan_inputs
from embedkit.corpus.rows import plan_rows
from embedkit.encoders.kinds import read_job_model
from embedkit.encoders.local_client import LocalConnection
from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import check_kind
from embedkit.flow.block_size import with_block_size
from embedkit.flow.prepare import Draft, begin_version
from embedkit.records import DocumentBlock
from embedkit.transforms.blocks import BlocksFromRows, BlockTransform
from embedkit.transforms.embed import Connect, MakeVersion
from embedkit.transforms.read import ChunkDocuments, ReadCorpus
from embedkit.transforms.write import SkipCommitted


@dataclass
class EmbedCorpus(BlockTransform):
    """Documents -> a complete version; the output is its one RunAccount.

    Documents are the rows of a PCollection (mappings, named tuples or ``beam.Row`` with a text,
    an id and whatever is to be carried along), DocumentBlocks of a user's own making, or the
    corpus that ``records`` names where the transform is applied to the pipeline itself.

    Applying it reads the model's files, plans the corpus and begins the version, so most mistakes
    show before anything runs. A block that the version already has is not encoded again, so the
    same pipeline resumes where it was stopped, and changes nothing once the version is complete.

        >>> import apache_beam as beam
        >>> from embedkit import EmbedCorpus, ModelConfig, OutputConfig
        >>> output = OutputConfig(output="rows", version="2026-01-31")
        >>> with beam.Pipeline() as pipeline:
        ...     rows = pipeline | beam.Create([{"id": 1, "text": "rain"}, {"id": 2, "text": "fox"}])
        ...     account = rows | EmbedCorpus(ModelConfig(model="model"), output)
        ...     _ = account | beam.Map(lambda one: print(one.version, one.rows))
        2026-01-31 2

    Attributes:
        model: Which vectors a text gets.
        output: Where the version is written; for a PCollection it must name the version, as
            nothing else tells one set of rows from another.
        records: How records become rows; a CorpusConfig for the pipeline itself. Chunks, where it
            asks for them, are made of rows and blocks alike.
        connect: Picklable; called once per worker, returns the client that reaches the encoders.
            Unless given, every worker process loads the model itself.
        shards: Splits that the rows of a PCollection are spread over.
        plan: The plan that a PCollection of blocks was read by; without it, the version has the
            splits that the blocks name.
        call_tokens: Most tokens of one call to an encoder.

    Raises:
        ConfigError: A setting, the model or the output cannot be used.
        InputError: An input cannot be used.
    """

    model: ModelConfig
    output: OutputConfig
    records: RecordConfig = field(default_factory=RecordConfig)
    connect: Connect | None = None
    shards: int = 64
    plan: Plan | None = None
    call_tokens: int = field(default_factory=lambda: EngineConfig().call_tokens)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kind("model", self.model, ModelConfig)
        check_kind("output", self.output, OutputConfig)
        check_kind("records", self.records, RecordConfig)
        if type(self.shards) is not int or self.shards < 1:
            raise ConfigError(f"shards is {self.shards!r}; give a whole number of at least 1")
        if self.output.version is None and not isinstance(self.records, CorpusConfig):
            raise ConfigError(
                "output: without input files nothing tells one version from another; name it, as "
                "OutputConfig(output=..., version='2026-01-31')"
            )

    def expand(self, documents: Any) -> beam.PCollection:
        """From whatever the documents are to blocks, and from there on one way for all."""
        if isinstance(documents, beam.PCollection):
            self._check(documents)
            if _holds_blocks(documents):
                return self._from_blocks(documents)
            return self._from_rows(documents)
        return self._from_corpus(documents)

    def _from_corpus(self, pipeline: beam.Pipeline) -> beam.PCollection:
        if not isinstance(self.records, CorpusConfig):
            raise ConfigError(
                "records: applied to a pipeline, EmbedCorpus reads the inputs that a CorpusConfig "
                "names; give one, or apply it to a PCollection of rows"
            )
        draft = self._draft(plan_inputs(self.records))
        records = with_block_size(self.records, draft.model)
        read = ReadCorpus(records, draft.plan, draft.make_chunker, draft.version, draft=draft)
        return self._completed(draft, pipeline | "ReadCorpus" >> read)

    def _from_rows(self, rows: beam.PCollection) -> beam.PCollection:
        draft = self._draft(plan_rows(self.shards))
        blocks = BlocksFromRows(draft.records, self.shards, draft.make_chunker)
        return self._completed(
            draft,
            rows | "BlocksFromRows" >> blocks | "SkipCommitted" >> SkipCommitted(draft.version),
        )

    def _from_blocks(self, blocks: beam.PCollection) -> beam.PCollection:
        draft = self._draft(plan_rows(0) if self.plan is None else self.plan)
        splits = None
        if self.plan is None:
            splits = (
                blocks
                | "SplitOfBlock" >> beam.Map(_split_id).with_output_types(str)
                | "Splits" >> beam.Distinct()
            )
        if draft.make_chunker is not None:
            blocks |= "ChunkDocuments" >> ChunkDocuments(draft.make_chunker)
        pending = blocks | "SkipCommitted" >> SkipCommitted(draft.version)
        return self._completed(draft, pending, splits)

    def _draft(self, plan: Plan) -> Draft:
        model = read_job_model(self.model, self.records)
        if model.needs_ranges:
            raise ConfigError(
                "precision is int8, for which embedkit run measures a sample of its corpus; take "
                "another precision in a pipeline of your own, such as bfloat16 or float32"
            )
        return begin_version(self.model, model, plan, self.records, self.output)

    def _completed(
        self,
        draft: Draft,
        blocks: beam.PCollection,
        further_splits: beam.PCollection | None = None,
    ) -> beam.PCollection:
        connect = self.connect or LocalConnection(draft.model)
        corpus = draft.records if isinstance(draft.records, CorpusConfig) else None
        return blocks | "MakeVersion" >> MakeVersion(
            draft, connect, self.call_tokens, further_splits=further_splits, corpus=corpus
        )

    def _check(self, documents: beam.PCollection) -> None:
        if isinstance(self.records, CorpusConfig):
            raise ConfigError(
                f"records: names inputs ({', '.join(self.records.inputs)}), but the documents come "
                "from a PCollection; give a RecordConfig, or apply EmbedCorpus to the pipeline"
            )
        if not documents.is_bounded:
            raise ConfigError(
                "documents: the PCollection is unbounded, so its version would never be complete; "
                "give a bounded one"
            )
        columns = getattr(documents.element_type, "_fields", None)
        if columns is not None and not _holds_blocks(documents):
            names = [column if isinstance(column, str) else column[0] for column in columns]
            missing = sorted(set(Columns.of(self.records).text_names).difference(names))
            if missing:
                raise ConfigError(
                    f"documents: the rows have no column {', '.join(missing)}, but "
                    f"{', '.join(names)}; name another text column, or map the rows"
                )


def _holds_blocks(documents: beam.PCollection) -> bool:
    kind = documents.element_type
    return isinstance(kind, type) and issubclass(kind, DocumentBlock)


def _split_id(block: DocumentBlock) -> str:
    return block.split_id
