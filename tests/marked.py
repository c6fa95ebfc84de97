"""Versions whose vectors are marked: encoding the same texts again would give other bytes."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.committed import committed
from embedkit.dataset.finalize import part_of
from embedkit.dataset.manifest import read_manifest, read_success
from embedkit.dataset.version import Version
from embedkit.formats.canonical import canonical_json, sha256, with_checksum
from embedkit.vectors import Vectors, value_column, vectors_of


def mark_vectors(version: Version) -> None:
    """Turns the vectors of a complete version round, and says so in its records and manifest."""
    manifest, parts = read_manifest(version), []
    for block, record in committed(version).items():
        if record.part is None:
            continue
        key = version.part_key(block)
        with version.store.open(key) as file:
            table = pq.read_table(file)
        found = vectors_of(table)
        moved = np.ascontiguousarray(found.stacked[:, ::-1]).reshape(-1)
        name = value_column(table.schema)
        column = Vectors(moved, found.width, found.offsets).to_arrow()
        column = pa.array(moved) if name == "score" else column
        place = table.schema.get_field_index(name)
        sink = io.BytesIO()
        pq.write_table(table.set_column(place, table.schema.field(place), column), sink)
        version.store.replace(key, sink.getvalue())
        size, digest = len(sink.getvalue()), sha256(sink.getvalue())
        record = replace(record, size=size, sha256=digest)
        version.store.replace(version.commit_key(block), record.to_json())
        parts.append(part_of(record, record.part))
    manifest = replace(manifest, parts=tuple(parts), size=sum(part.size for part in parts))
    version.store.replace(version.manifest_key, manifest.to_json())
    success = read_success(version) | {"manifest_sha256": sha256(manifest.to_json())}
    version.store.replace(version.success_key, canonical_json(with_checksum(success)))
