"""A dataset of Lance, with an index of its own where rows are many."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import lance
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.search.export.bulk import Written
from embedkit.search.export.index import Found
from embedkit.search.export.measure import efforts, measure
from embedkit.search.export.source import Source

FOLDER: Final = "rows.lance"
_METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
_EXACT_BELOW = 10_000
_ROWS_PER_LIST = 4096
_FRAGMENT_BITS = 32


class LanceDataset:
    """Target ``lance``."""

    metrics = tuple(_METRICS)

    def write(self, source: Source, folder: Path, recall: float) -> Written:
        """Writes ``rows.lance``, with the columns of the version and, from 10,000 rows, an index.

        Its lists (``IVF_FLAT``) have some 4,096 rows each, as Lance's own guide has it.
        """
        names = ["id", "embedding", *source.payload()]
        schema = pa.schema([source.schema.field(name) for name in names])
        reader = pa.RecordBatchReader.from_batches(schema, _batches(source, names))
        path = str(folder / FOLDER)
        dataset = lance.write_dataset(reader, path, schema=schema)
        settings: dict[str, Any] = {
            "folder": FOLDER,
            "metric": _METRICS[source.metric],
            "index": None,
            "nprobes": None,
            "library": f"pylance {lance.__version__}",
        }
        lists = 0
        if source.rows >= _EXACT_BELOW:
            lists = max(2, source.rows // _ROWS_PER_LIST)
            dataset = dataset.create_index(
                "embedding", "IVF_FLAT", metric=_METRICS[source.metric], num_partitions=lists
            )
            settings |= {"index": "IVF_FLAT", "num_partitions": lists}
        searched = _Searched(dataset, source.metric, lists)
        measured = measure(searched, np.arange(source.rows), source, recall)
        if lists:
            settings["nprobes"] = searched.effort
        return Written(settings, measured)


class _Searched:
    """A dataset that is asked; its rows have the numbers that they have in the version."""

    def __init__(self, dataset: Any, metric: str, lists: int) -> None:
        self._dataset = dataset
        self._metric = metric
        self.efforts: Sequence[int] = efforts(1, lists) if lists else (0,)
        self.effort = self.efforts[0]
        counts = [fragment.count_rows() for fragment in dataset.get_fragments()]
        self._firsts = np.append(0, np.cumsum(counts))

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """Finds the rows nearest to each query."""
        labels = np.full((len(queries), k), -1, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for place, query in enumerate(queries):
            nearest: dict[str, Any] = {"column": "embedding", "q": query, "k": k}
            nearest["metric"] = _METRICS[self._metric]
            if self.effort:
                nearest["nprobes"] = self.effort
            found = self._dataset.to_table(columns=["_distance"], nearest=nearest, with_row_id=True)
            rows = found["_rowid"].to_numpy()
            fragments = rows >> np.uint64(_FRAGMENT_BITS)
            offsets = rows & np.uint64((1 << _FRAGMENT_BITS) - 1)
            labels[place, : len(rows)] = self._firsts[fragments] + offsets.astype(np.int64)
            distances = found["_distance"].to_numpy()
            near = -np.sqrt(distances) if self._metric == "euclidean" else 1 - distances
            scores[place, : len(rows)] = near
        return labels, scores


def _batches(source: Source, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for rows in source.batches(source.payload()):
        yield rows.columns.select(list(names))


WRITER: Final = LanceDataset()
