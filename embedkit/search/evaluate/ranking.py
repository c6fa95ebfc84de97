"""The nearest documents of every query, found as rows pass by."""

import numpy as np
from numpy.typing import NDArray

QUERIES_AT_ONCE = 1024
"""Queries whose scores with a batch of rows are in memory at a time."""


class Ranking:
    """The nearest documents of some queries so far.

    A document has the score of its best row; of equal scores the document with the smaller number
    comes first. The result does not depend on how rows are cut into batches.

    Args:
        queries: How many queries there are.
        depth: Documents that are kept of each.
    """

    def __init__(self, queries: int, depth: int) -> None:
        self._depth = depth
        self._documents = [np.empty(0, np.int64) for _ in range(queries)]
        self._scores = [np.empty(0, np.float64) for _ in range(queries)]

    def add(self, first: int, documents: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """Takes the scores of rows.

        Args:
            first: Number of the first query that they are scores with.
            documents: The document of each row, shape (rows,).
            scores: Shape (queries, rows); -inf for a row that a query may not find.
        """
        order = np.argsort(documents, kind="stable")
        different, starts = np.unique(documents[order], return_index=True)
        if len(different) < len(documents):
            scores = np.maximum.reduceat(scores[:, order], starts, axis=1)
        else:
            scores = scores[:, order]
        for query, row in enumerate(scores, first):
            self._add(query, different, row)

    def _add(self, query: int, documents: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        near = _nearest(scores, self._depth)
        near = near[scores[near] > -np.inf]
        found = np.concatenate([self._documents[query], documents[near]])
        scored = np.concatenate([self._scores[query], scores[near]])
        order = np.lexsort((found, -scored))
        # A document that came before keeps the better of its two scores.
        _, firsts = np.unique(found[order], return_index=True)
        kept = order[np.sort(firsts)][: self._depth]
        self._documents[query], self._scores[query] = found[kept], scored[kept]

    def documents(self, query: int) -> NDArray[np.int64]:
        """Returns the numbers of the documents nearest to a query, the nearest first."""
        return self._documents[query]

    def scores(self, query: int) -> NDArray[np.float64]:
        """Returns their scores."""
        return self._scores[query]

    def begin_with(self, query: int, documents: NDArray[np.int64]) -> None:
        """Puts some documents of a query before its others, which keep their order.

        The scores then tell no order any more.
        """
        others = self._documents[query]
        others = others[~np.isin(others, documents)]
        self._documents[query] = np.concatenate([documents, others])


def _nearest(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Returns the places of the best scores, at least so many, with all that equal the last."""
    if len(scores) <= count:
        return np.arange(len(scores))
    place = len(scores) - count
    return np.flatnonzero(scores >= np.partition(scores, place)[place])
