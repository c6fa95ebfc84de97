"""Maps of rows, as a page reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def map_table(
    rows: int,
    clusters: int = 3,
    texts: Sequence[str | None] | None = None,
    ids: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Makes a map of rows that lie on a spiral; every tenth is in no cluster."""
    turns = np.linspace(0, 9, rows)
    numbers = np.arange(rows) % clusters
    return pa.table(
        {
            "id": pa.array(ids or [f"row-{place}" for place in range(rows)]),
            "x": pa.array(turns * np.cos(turns), pa.float32()),
            "y": pa.array(turns * np.sin(turns), pa.float32()),
            "cluster": pa.array(np.where(np.arange(rows) % 10 == 9, -1, numbers), pa.int32()),
            "source": pa.array(sources or [f"part-{place % 2}.jsonl" for place in range(rows)]),
            "text": pa.array(texts or [f"text of {place}" for place in range(rows)], pa.string()),
            **(metadata or {}),
        }
    )


def named_clusters(*terms: str) -> list[dict[str, Any]]:
    return [{"terms": [term], "rows": 1} for term in terms]
