"""Bulk requests for OpenSearch, and the index that they are for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa

from embedkit.search.export.bulk import Written
from embedkit.search.export.source import Source, VectorRows
from embedkit.search.export.values import documents, to_json, unfit

INDEX: Final = "index.json"
_SPACES = {"cosine": "cosinesimil", "dot": "innerproduct", "euclidean": "l2"}
_MOST_COMPONENTS = 16_000
_MOST_ID_BYTES = 512
_MOST_BYTES = 64 << 20
"""Of a file: OpenSearch takes requests of up to 100 MB unless told otherwise."""
# In UTF-8 a character has up to 4 bytes, and Lucene takes terms of up to 32,766 bytes.
_KEYWORD = {"type": "keyword", "ignore_above": 8191}
_PLACE = {
    "id": _KEYWORD,
    "doc_id": _KEYWORD,
    "source": _KEYWORD,
    "chunk_index": {"type": "integer"},
    "char_start": {"type": "integer"},
    "char_end": {"type": "integer"},
    "row_index": {"type": "long"},
    "text": {"type": "text"},
}


class OpensearchBulk:
    """Target ``opensearch``."""

    metrics = tuple(_SPACES)

    def write(self, source: Source, folder: Path, recall: float) -> Written:
        """Writes ``bulk-00000.ndjson`` and so on, and ``index.json``, which makes the index.

        Each file is the body of one request to ``_bulk``, of at most some 64 MB. An ``_id`` is the
        row's id.

        Raises:
            ConfigError: An id is too long, names of columns contradict each other, or a vector of
                zeros has no cosine.
        """
        if source.dimension > _MOST_COMPONENTS:
            raise unfit(
                source,
                "OpenSearch",
                f"vectors of {source.dimension:,} components",
                f"{_MOST_COMPONENTS:,} are the most; embed with fewer --dimensions",
            )
        (folder / INDEX).write_bytes(to_json(_index(source)) + b"\n")
        files = _Files(folder)
        for rows in source.batches(source.payload()):
            _check(source, rows)
            for request in _requests(source, rows):
                files.write(request)
        files.close()
        return Written({"index": INDEX, "files": files.count})


class _Files:
    """Files of a bounded size, one behind the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._size = 0
        self.count = 0

    def write(self, request: bytes) -> None:
        if self._file is None or self._size + len(request) > _MOST_BYTES:
            self.close()
            self._file = (self._folder / f"bulk-{self.count:05d}.ndjson").open("wb")
            self._size = 0
            self.count += 1
        self._file.write(request)
        self._size += len(request)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _requests(source: Source, rows: VectorRows) -> Iterator[bytes]:
    for vector, document in zip(rows.float32(), documents(source, rows), strict=True):
        action = to_json({"index": {"_id": document["id"]}})
        yield action + b"\n" + to_json({**document, "embedding": vector}) + b"\n"


def _check(source: Source, rows: VectorRows) -> None:
    for name in rows.ids.to_pylist():
        if len(name.encode()) > _MOST_ID_BYTES:
            raise unfit(
                source,
                "OpenSearch",
                f"the id {name[:40]!r}…, which has more than {_MOST_ID_BYTES} bytes",
                "give the records shorter ids",
            )
    if source.metric == "cosine":
        zeros = np.flatnonzero(~rows.vectors.any(axis=1))
        if len(zeros):
            raise unfit(
                source,
                "OpenSearch",
                f"the vector of {rows.ids[zeros[0]].as_py()!r}, whose components are all zero and "
                "which has no cosine",
                "leave the record out",
            )


def _index(source: Source) -> dict[str, Any]:
    encoder = {"encoder": {"name": "sq", "parameters": {"type": "fp16"}}}
    method: dict[str, Any] = {
        "name": "hnsw",
        "engine": "faiss",
        "space_type": _SPACES[source.metric],
        "parameters": encoder if source.dtype == np.float16 else {},
    }
    embedding = {"type": "knn_vector", "dimension": source.dimension, "method": method}
    known = {name: _PLACE[name] for name in ("id", *source.payload()) if name in _PLACE}
    of_user = _metadata(source)
    return {
        "settings": {"index": {"knn": True}},
        "mappings": {
            "dynamic": "strict",
            "properties": {**known, "metadata": {"properties": of_user}, "embedding": embedding},
        },
    }


def _metadata(source: Source) -> dict[str, Any]:
    """Returns the fields of the user's columns; a dot in a name is a field within a field."""
    fields: dict[str, Any] = {}
    for name in sorted(source.metadata):
        steps = name.split(".")
        whole = ["metadata", *steps]
        above = [".".join(steps[:count]) for count in range(1, len(steps))]
        if not all(step.strip() for step in whole) or any(one in source.metadata for one in above):
            raise unfit(
                source,
                "OpenSearch",
                f"the column {name!r}, as a dot in a name is a field within a field",
                "give it another name in the inputs, or leave it out",
            )
        fields[name] = _field(source.schema.field(name).type)
    return fields


def _field(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        # Any field may have several values.
        return _field(kind.value_type)
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_uint64(kind):
        return {"type": "unsigned_long"}
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        return {"type": "long"}
    if pa.types.is_floating(kind):
        return {"type": "double"}
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return {"type": "date", "format": "strict_date_optional_time_nanos"}
    if pa.types.is_binary(kind):
        return {"type": "binary"}
    return _KEYWORD


WRITER: Final = OpensearchBulk()
