"""Points for Qdrant: a JSON object a line, and the collection that they are for."""

import uuid
from pathlib import Path
from typing import Any, Final

import numpy as np

from embedkit.search.export.bulk import Written
from embedkit.search.export.source import Source
from embedkit.search.export.values import documents, to_json

POINTS: Final = "points.jsonl"
COLLECTION: Final = "collection.json"
NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/embedkit-batch")
"""Of the ids of points, which Qdrant wants to be numbers or UUIDs."""

_DISTANCES = {"cosine": "Cosine", "dot": "Dot", "euclidean": "Euclid", "manhattan": "Manhattan"}


class QdrantPoints:
    """Target ``qdrant``."""

    metrics = tuple(_DISTANCES)

    def write(self, source: Source, folder: Path, recall: float) -> Written:
        """Writes ``points.jsonl``, and ``collection.json``, the body that makes the collection.

        A point's id is the UUID (version 5) of the row's id, so that the same row replaces itself
        when a later version is uploaded; the row's own id is in the payload.
        """
        half = source.dtype == np.float16
        vectors: dict[str, Any] = {
            "size": source.dimension,
            "distance": _DISTANCES[source.metric],
            **({"datatype": "float16"} if half else {}),
        }
        with (folder / POINTS).open("wb") as file:
            for rows in source.batches(source.payload()):
                payloads = documents(source, rows)
                for vector, payload in zip(rows.float32(), payloads, strict=True):
                    name = str(uuid.uuid5(NAMESPACE, payload["id"]))
                    point = {"id": name, "vector": vector, "payload": payload}
                    file.write(to_json(point) + b"\n")
        (folder / COLLECTION).write_bytes(to_json({"vectors": vectors}) + b"\n")
        return Written({"points": POINTS, "collection": COLLECTION, "vectors": vectors})


WRITER: Final = QdrantPoints()
