"""Blocks as Beam elements: their coder, and the way from and to rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from embedkit.config import RecordConfig
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.plan import Plan
from embedkit.corpus.rows import (
    Kinds,
    add_kinds,
    as_mapping,
    blocks_from_rows,
    plan_rows,
    row_metadata,
    row_split,
    value_kinds,
)
from embedkit.errors import ConfigError
from embedkit.records import Block, DocumentBlock, TokenBlock
from embedkit.vectors import EmbeddingBlock, value_column

MakeChunker = Callable[[], Chunker | None]


class BlockCoder(beam.coders.Coder):
    """Codes blocks as Arrow IPC streams, so a user's own step may shuffle them."""

    block_type: type[Block] = Block

    def encode(self, value: Block) -> bytes:
        """Returns the block as an Arrow IPC stream."""
        return value.to_ipc()

    def decode(self, encoded: bytes) -> Block:
        """Reads a block back."""
        return self.block_type.from_ipc(encoded)

    def estimate_size(self, value: Block) -> int:
        """Returns the bytes of its rows, without encoding it.

        Beam asks this of each of a bundle's first ten blocks at the end of every step.
        """
        return int(value.rows.nbytes)

    def is_deterministic(self) -> bool:
        """Equal blocks have equal bytes."""
        return True

    def to_type_hint(self) -> type[Block]:
        """Returns the type of the blocks."""
        return self.block_type

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class DocumentBlockCoder(BlockCoder):
    """Codes DocumentBlocks."""

    block_type = DocumentBlock


class TokenBlockCoder(BlockCoder):
    """Codes TokenBlocks."""

    block_type = TokenBlock


class EmbeddingBlockCoder(BlockCoder):
    """Codes EmbeddingBlocks."""

    block_type = EmbeddingBlock


for _coder in (DocumentBlockCoder, TokenBlockCoder, EmbeddingBlockCoder):
    beam.coders.registry.register_coder(_coder.block_type, _coder)


class BlockTransform(beam.PTransform):
    """A transform that is a dataclass."""

    def __post_init__(self) -> None:
        super().__init__()


class _MetadataKinds(beam.CombineFn):
    def create_accumulator(self) -> Kinds:
        return {}

    def add_input(self, accumulator: Kinds, element: Kinds) -> Kinds:
        return add_kinds(accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Kinds]) -> Kinds:
        merged: Kinds = {}
        for accumulator in accumulators:
            merged = add_kinds(merged, accumulator)
        return merged

    def extract_output(self, accumulator: Kinds) -> Kinds:
        return accumulator


class ChunkingFn(beam.DoFn):
    """A DoFn with a chunker of its own in each worker.

    Attributes:
        chunker: It, or None where documents stay whole.
    """

    def __init__(self, make_chunker: MakeChunker | None) -> None:
        self._make_chunker = make_chunker
        self.chunker: Chunker | None = None

    def setup(self) -> None:
        """Makes the chunker."""
        if self._make_chunker is not None:
            self.chunker = self._make_chunker()


class _BlocksOfSplit(ChunkingFn):
    def __init__(self, records: RecordConfig, make_chunker: MakeChunker | None) -> None:
        super().__init__(make_chunker)
        self._records = records

    def process(
        self, group: tuple[str, Iterable[dict[str, Any] | None]], kinds: Kinds
    ) -> Iterator[DocumentBlock]:
        split_id, rows = group
        metadata = row_metadata(kinds, self._records)
        present = (row for row in rows if row is not None)
        yield from blocks_from_rows(split_id, present, self._records, metadata, self.chunker)


@dataclass
class BlocksFromRows(BlockTransform):
    """PCollection of mappings, named tuples or ``beam.Row`` -> DocumentBlocks.

    Rows are spread over ``shards`` splits by a hash of their id and sorted within, so the blocks
    depend on the rows alone and a repeated run finds what it has committed. This shuffles the
    documents, never vectors; one shard's rows must fit into a worker's memory.

    Attributes:
        records: How rows become documents. The id column is ``id`` unless named, and a row without
            one gets an id from its text. Without ``metadata_columns`` all other columns are
            carried along, their types told from all values.
        shards: Number of splits; a shard should hold 10,000 to 100,000 rows.
        make_chunker: Makes the chunker in each worker, or None to leave documents whole.
    """

    records: RecordConfig = field(default_factory=RecordConfig)
    shards: int = 64
    make_chunker: MakeChunker | None = None

    @property
    def plan(self) -> Plan:
        """The splits, every one of which will end, with or without rows."""
        return plan_rows(self.shards)

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Labels every step of the way."""
        mappings = rows | "OneWindow" >> beam.WindowInto(beam.window.GlobalWindows())
        mappings |= "AsMapping" >> beam.Map(as_mapping).with_output_types(dict[str, Any])
        kinds = (
            mappings
            | "Kinds" >> beam.Map(value_kinds, self.records)
            | "AllKinds" >> beam.CombineGlobally(_MetadataKinds())
        )
        keyed = mappings | "KeyBySplit" >> beam.Map(
            _keyed, self.records, self.shards
        ).with_output_types(tuple[str, Any])
        splits = [(split.split_id, None) for split in self.plan.splits]
        every = rows.pipeline | "EverySplit" >> beam.Create(
            splits, reshuffle=False
        ).with_output_types(tuple[str, Any])
        blocks = beam.ParDo(
            _BlocksOfSplit(self.records, self.make_chunker), beam.pvalue.AsSingleton(kinds)
        )
        return (
            (every, keyed)
            | "Flatten" >> beam.Flatten()
            | "GroupBySplit" >> beam.GroupByKey()
            | "Blocks" >> blocks.with_output_types(DocumentBlock)
        )


def _keyed(row: dict[str, Any], records: RecordConfig, shards: int) -> tuple[str, dict[str, Any]]:
    return row_split(row, records, shards), row


def rows_from_blocks(block: Block) -> Iterator[dict[str, Any]]:
    """Yields a block's rows as mappings.

    Their ``embedding`` is a numpy array, shape (dimension,), and so are ``scores``; ``embeddings``
    are one of shape (vectors, dimension).
    """
    if not isinstance(block, EmbeddingBlock):
        yield from block.rows.to_pylist()
        return
    column = value_column(block.rows.schema)
    names = [name for name in block.rows.schema.names if name != column]
    rows, vectors = block.rows.select(names).to_pylist(), block.vectors
    for place, row in enumerate(rows):
        of_row = vectors.of_row(place)
        row[column] = of_row if column == "embeddings" else of_row[0]
        if column == "score":
            row[column] = float(of_row[0, 0])
    yield from rows


@dataclass
class RowsFromBlocks(BlockTransform):
    """Blocks of any stage -> PCollection of mappings, one per row."""

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        return blocks | "Rows" >> beam.FlatMap(rows_from_blocks)


def check_begins(name: str, given: Any) -> None:
    """Checks that a transform which begins a pipeline is applied to one.

    Raises:
        ConfigError: It is applied to what another gives.
    """
    if isinstance(given, beam.PCollection):
        raise ConfigError(
            f"{name}: reads from files, and not what stands before it; apply it to the pipeline"
        )
