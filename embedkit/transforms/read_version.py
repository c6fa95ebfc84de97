"""The rows of a complete version, as Arrow batches."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from embedkit.dataset.manifest import Part, read_manifest
from embedkit.dataset.rows import checked_columns, read_columns, schema_of
from embedkit.dataset.version import Version, find_version
from embedkit.transforms.blocks import BlockTransform, check_begins


class RecordBatchCoder(beam.coders.Coder):
    """Codes record batches as Arrow IPC streams."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Returns the batch as a stream of its own."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return bytes(sink.getvalue())

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Reads the batch back."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Returns the bytes of the batch, without encoding it, as Beam asks this of many."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """Equal batches may have other buffers."""
        return False

    def to_type_hint(self) -> Any:
        """Returns the type of the batches."""
        return pa.RecordBatch

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)


@dataclass
class ReadVersion(BlockTransform):
    """Pipeline -> the rows of a complete version, as ``pyarrow.RecordBatch``.

    Only the parts that the manifest lists are read, each of them whole or not at all.

        >>> import apache_beam as beam
        >>> from embedkit import ReadVersion
        >>> with beam.Pipeline() as pipeline:
        ...     batches = pipeline | ReadVersion("embeddings", columns=["id", "n_tokens"])
        ...     tokens = batches | beam.Map(lambda batch: sum(batch["n_tokens"].to_pylist()))
        ...     _ = tokens | beam.CombineGlobally(sum) | beam.Map(print)
        718

    Attributes:
        path: The dataset's root, for its newest version, or one version of it; a path or URL.
        columns: Names of the columns to read; all of them unless given.

    Raises:
        ConfigError: When it is applied: there is no complete version, or no such column.
        IntegrityError: In a worker: a part is gone, damaged, or not what the manifest says.
    """

    path: str | os.PathLike[str]
    columns: Sequence[str] | None = None

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Spreads the parts over the workers and reads them there."""
        check_begins("ReadVersion", pipeline)
        version = find_version(self.path)
        parts = read_manifest(version).parts
        columns = None
        if parts:
            columns = checked_columns(schema_of(version, parts), self.columns)
        return (
            pipeline
            | "Parts" >> beam.Create(parts, reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "ReadPart"
            >> beam.ParDo(_ReadPart(version, columns)).with_output_types(pa.RecordBatch)
        )


class _ReadPart(beam.DoFn):
    def __init__(self, version: Version, columns: list[str] | None) -> None:
        self._version = version
        self._columns = columns

    def process(self, part: Part) -> Iterator[pa.RecordBatch]:
        yield from read_columns(self._version, [part], self._columns)
