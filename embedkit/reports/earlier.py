"""Sidecars of statistics as release 0.1 wrote them.

They hold sums and a sample with its vectors. What is a sum is taken over; of the sample only keys
and texts are, as rows are read from the parts now.
"""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from embedkit.records import Nulled
from embedkit.reports.histogram import Histogram
from embedkit.reports.moments import Moments
from embedkit.reports.sample import RowKeys, most_rows
from embedkit.reports.sections import lengths, records, similarity, vectors
from embedkit.reports.sums import FixedSum


def sections_of_0_1(data: Mapping[str, Any], block_id: str) -> dict[str, Any]:
    """Returns the statistic of each section, by the section's name.

    Args:
        data: The sidecar.
        block_id: Its block.
    """
    rejects: dict[str, int] = data["rejects"]
    directions = np.frombuffer(base64.b64decode(data["direction_sum"]), "<f8").astype(np.float64)
    norms = data["norms"]
    return {
        records.SECTION.name: records.Records(
            documents=data["documents"],
            embedded=data["embedded"],
            rows=data["rows"],
            rejects=dict(sorted(rejects.items())),
            first_rejects={reason: ((block_id, n),) for reason, n in sorted(rejects.items())},
            nulled=tuple(Nulled(**nulled) for nulled in data.get("nulled", ())),
        ),
        lengths.SECTION.name: lengths.Lengths(
            tokens=data["tokens"],
            n_tokens=data["n_tokens"],
            truncated=data["truncated"],
            longest=data["longest"],
            lengths=_histogram(data["lengths"]),
        ),
        vectors.SECTION.name: vectors.VectorNorms(
            norms=Moments.around(**norms) if norms["count"] else Moments(),
            histogram=_histogram(data["norm_histogram"]),
            non_finite=data["non_finite"],
            zero=data["zero"],
        ),
        similarity.SECTION.name: similarity.Directions(
            count=norms["count"] - data["zero"], total=FixedSum.of(directions)
        ),
    }


def keys_of_0_1(data: Mapping[str, Any], block_id: str) -> RowKeys:
    """Returns the keys of a block's sampled rows; which rows those are is not known.

    Args:
        data: The sidecar.
        block_id: Its block.
    """
    columns, dimension = data["sample"]["columns"], data["sample"]["dimension"]
    found = np.array(columns["key"], np.uint64)
    if not len(found):
        return RowKeys()
    texts = tuple(map(str, columns["text"]))
    unknown = np.full(len(found), -1, np.int64)
    return RowKeys.of_block(
        block_id, most_rows(dimension), found, unknown, data["rows"], texts if any(texts) else ()
    )


def _histogram(data: Mapping[str, Any]) -> Histogram:
    return Histogram(np.array(data["bins"], np.int64), np.array(data["counts"], np.int64))
