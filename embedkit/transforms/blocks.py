"""Blocks as Beam elements: their coder, and the way from and to rows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from embedkit.errors import ConfigError
from embedkit.records import (
    DOCUMENT_SCHEMA,
    Block,
    DocumentBlock,
    EmbeddingBlock,
    Reject,
    TokenBlock,
    digest,
    text_hash,
)


class BlockCoder(beam.coders.Coder):
    """Codes blocks as Arrow IPC streams, so a user's own step may shuffle them."""

    block_type: type[Block] = Block

    def encode(self, value: Block) -> bytes:
        """Returns the block as an Arrow IPC stream."""
        return value.to_ipc()

    def decode(self, encoded: bytes) -> Block:
        """Reads a block back."""
        return self.block_type.from_ipc(encoded)

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


def blocks_from_rows(
    split_id: str, rows: Iterable[Mapping[str, Any]], block_rows: int
) -> Iterator[DocumentBlock]:
    """Builds the blocks of one split from rows in memory.

    Args:
        split_id: The split's id.
        rows: Mappings with ``text``, a unique ``id`` unless the text itself is the identity, and
            any metadata. Keys may differ from row to row; types of one key may not.
        block_rows: Most rows of a block.

    Yields:
        Blocks in the order of the rows' ids, so the same rows give the same blocks in whatever
        order they came. A row that cannot be used is a reject of its block.
    """
    ordered = sorted(
        ((_row_id(row), row) for row in rows), key=lambda pair: (pair[0], str(pair[1]))
    )
    starts = range(0, max(1, len(ordered)), block_rows)
    seen: set[str] = set()
    for seq, start in enumerate(starts):
        part = ordered[start : start + block_rows]
        kept: list[tuple[int, str, Mapping[str, Any]]] = []
        rejects: list[Reject] = []
        for number, (row_id, row) in enumerate(part, start):
            problem = _row_problem(row_id, row, seen)
            if problem is None:
                seen.add(row_id)
                kept.append((number, row_id, row))
            else:
                excerpt = str(row.get("text", ""))[:200]
                rejects.append(Reject(split_id, number, *problem, row_id, excerpt))
        yield DocumentBlock(
            split_id=split_id,
            seq=seq,
            documents=len(part),
            last=start == starts[-1],
            rejects=tuple(rejects),
            rows=_record_batch(split_id, kept),
            documents_before=start,
        )


def _row_id(row: Mapping[str, Any]) -> str:
    value = row.get("id")
    return digest(str(row.get("text"))) if value is None else str(value)


def _row_problem(row_id: str, row: Mapping[str, Any], seen: set[str]) -> tuple[str, str] | None:
    text = row.get("text")
    if not isinstance(text, str):
        kind = type(text).__name__
        return "wrong_type", f"row {row_id!r}: text is {kind}, expected str; convert it upstream"
    if not text.strip():
        return "empty_text", f"row {row_id!r}: text is empty; drop such rows upstream"
    if "\0" in text:
        return "nul_byte", f"row {row_id!r}: text holds a NUL; remove it upstream"
    if row_id in seen:
        return "duplicate_id", f"row {row_id!r}: another row has this id; make ids unique"
    return None


def _record_batch(split_id: str, kept: list[tuple[int, str, Mapping[str, Any]]]) -> pa.RecordBatch:
    texts = [row["text"] for _, _, row in kept]
    ids = [row_id for _, row_id, _ in kept]
    columns: list[pa.Array] = [
        pa.array(ids, pa.string()),
        pa.array(ids, pa.string()),
        pa.array([0] * len(kept), pa.int32()),
        pa.array([0] * len(kept), pa.int32()),
        pa.array([len(text) for text in texts], pa.int32()),
        pa.array([text_hash(text) for text in texts], pa.string()),
        pa.array([split_id] * len(kept), pa.string()),
        pa.array([number for number, _, _ in kept], pa.int64()),
        pa.array(texts, pa.string()),
    ]
    schema = DOCUMENT_SCHEMA
    names = sorted({name for _, _, row in kept for name in row} - {"id", "text"})
    for name in names:
        try:
            column = pa.array([row.get(name) for _, _, row in kept])
        except pa.ArrowInvalid as error:
            raise ConfigError(
                f"rows: column {name!r} has values of more than one type ({error}); "
                "give it one type upstream"
            ) from error
        schema = schema.append(pa.field(name, column.type))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@dataclass
class BlocksFromRows(BlockTransform):
    """PCollection of mappings -> DocumentBlocks.

    Rows are spread over ``shards`` splits by a hash of their id and sorted within, so the blocks
    depend on the rows alone and a repeated run finds what it has committed. This shuffles the
    documents, never vectors; one shard's rows must fit into a worker's memory.

    Attributes:
        shards: Number of splits; a shard should hold 10,000 to 100,000 rows.
        block_rows: Most rows of a block.
    """

    shards: int = 64
    block_rows: int = 16_384

    @property
    def split_ids(self) -> list[str]:
        """The ids of the splits, every one of which will end, with or without rows."""
        return [f"{number:05d}" for number in range(self.shards)]

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Labels every step of the way."""
        splits = [(split_id, None) for split_id in self.split_ids]
        every = rows.pipeline | "EverySplit" >> beam.Create(splits)
        keyed = rows | "KeyBySplit" >> beam.Map(_keyed, self.shards)
        return (
            (every, keyed)
            | "Flatten" >> beam.Flatten()
            | "GroupBySplit" >> beam.GroupByKey()
            | "Blocks"
            >> beam.FlatMap(_grouped_blocks, self.block_rows).with_output_types(DocumentBlock)
        )


def _keyed(row: Mapping[str, Any], shards: int) -> tuple[str, dict[str, Any]]:
    mapping = row._asdict() if hasattr(row, "_asdict") else dict(row)
    return f"{int(digest(_row_id(mapping))[:8], 16) % shards:05d}", mapping


def _grouped_blocks(
    group: tuple[str, Iterable[dict[str, Any] | None]], block_rows: int
) -> Iterator[DocumentBlock]:
    split_id, rows = group
    return blocks_from_rows(split_id, (row for row in rows if row is not None), block_rows)


def rows_from_blocks(block: Block) -> Iterator[dict[str, Any]]:
    """Yields a block's rows as mappings; a vector is a numpy array, shape (dimension,)."""
    names = [name for name in block.rows.schema.names if name != "embedding"]
    rows = block.rows.select(names).to_pylist()
    if isinstance(block, EmbeddingBlock):
        for row, vector in zip(rows, block.vectors, strict=True):
            row["embedding"] = vector
    yield from rows


@dataclass
class RowsFromBlocks(BlockTransform):
    """Blocks of any stage -> PCollection of mappings, one per row."""

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        return blocks | "Rows" >> beam.FlatMap(rows_from_blocks)
