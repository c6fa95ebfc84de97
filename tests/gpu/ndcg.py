"""nDCG@10 of an exact search, from judgments in BEIR's layout."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CUT = 10


def judgments(file: Path, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
    """Reads from BEIR's ``qrels.tsv`` how relevant documents are, shape (queries, documents)."""
    rows = {name: place for place, name in enumerate(queries)}
    columns = {name: place for place, name in enumerate(documents)}
    gains = np.zeros((len(queries), len(documents)))
    with file.open(newline="", encoding="utf-8") as lines:
        for query, document, gain in list(csv.reader(lines, delimiter="\t"))[1:]:
            if query in rows and document in columns:
                gains[rows[query], columns[document]] = float(gain)
    return gains


def ndcg_at_10(scores: NDArray[Any], gains: NDArray[np.float64]) -> float:
    """Returns the mean over queries of the normalized discounted cumulative gain, linear gains.

    Args:
        scores: Shape (queries, documents).
        gains: The same shape; queries without a relevant document are left out.
    """
    judged = gains.max(axis=1) > 0
    scores, gains = scores[judged], gains[judged]
    discounts = 1 / np.log2(np.arange(2, 2 + min(_CUT, gains.shape[1])))
    best = -np.sort(-gains, axis=1)[:, : len(discounts)]
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(discounts)]
    found = np.take_along_axis(gains, order, axis=1)
    return float(((found @ discounts) / (best @ discounts)).mean())
