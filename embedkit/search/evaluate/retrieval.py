"""How well queries find the documents that answer them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.quantization import Matrix
from embedkit.search.evaluate.documents import Documents
from embedkit.search.evaluate.measures import DEPTH, Measured, measure
from embedkit.search.evaluate.ranking import QUERIES_AT_ONCE, Ranking
from embedkit.search.scores import scores_of

_WORST = 10
_SHOWN = 3

Gains = Mapping[str, Mapping[str, int]]
"""Of each query the judged documents and how relevant each is."""


@dataclass(frozen=True)
class ShownDocument:
    """A document that a query found, or should have found.

    Attributes:
        id: Its id.
        relevant: Whether it answers the query.
        rank: Its place among those that were found, from 1; None beyond the first 1,000.
        text: The beginning of its text; None where that is not known or not to be shown.
    """

    id: str
    relevant: bool
    rank: int | None
    text: str | None


@dataclass(frozen=True)
class WorstQuery:
    """A query that fares badly.

    Attributes:
        id: Its id.
        text: Its text; None where it is not to be shown.
        measures: Its nDCG@10, by that name.
        found: The first documents that it found.
        expected: The documents that answer it, the most relevant first, a few of them.
    """

    id: str
    text: str | None
    measures: dict[str, float]
    found: tuple[ShownDocument, ...]
    expected: tuple[ShownDocument, ...]


@dataclass(frozen=True)
class Retrieval:
    """How well queries find the documents that answer them.

    Attributes:
        queries: Queries with at least one relevant document.
        documents: Documents among which they looked.
        documents_from: ``version``, whose own vectors they are, or ``corpus``, encoded anew.
        unanswered: Judged queries without a relevant document, which are left out.
        measured: The measures.
        worst: The queries that fare worst, the worst first.
        about: What kind of retrieval it is, where a figure must not be taken for another.
    """

    queries: int
    documents: int
    documents_from: str
    unanswered: int
    measured: Measured
    worst: tuple[WorstQuery, ...]
    about: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures by name."""
        about = {} if self.about is None else {"about": self.about}
        return {
            **about,
            "queries": self.queries,
            "documents": self.documents,
            "documents_from": self.documents_from,
            "unanswered": self.unanswered,
            **self.measured.to_dict(),
            "worst": [asdict(one) for one in self.worst],
        }


def rank(
    documents: Documents,
    queries: NDArray[np.floating[Any]],
    metric: str,
    depth: int = DEPTH,
    excluded: NDArray[np.int64] | None = None,
    stored: Callable[[Matrix], Matrix] | None = None,
) -> Ranking:
    """Finds the documents nearest to queries, exactly.

    Args:
        documents: The documents.
        queries: Their vectors, shape (queries, dimension).
        metric: How vectors are compared.
        depth: Documents per query.
        excluded: Of each query the number of a document that it may not find, shape (queries,).
        stored: Makes of rows what is compared in their place.
    """
    ranking = Ranking(len(queries), depth)
    for numbers, vectors in documents.rows():
        rows = vectors if stored is None else stored(vectors)
        for first in range(0, len(queries), QUERIES_AT_ONCE):
            some = slice(first, first + QUERIES_AT_ONCE)
            scores = scores_of(queries[some], rows, metric)
            if excluded is not None:
                scores[numbers == excluded[some, None]] = -np.inf
            ranking.add(first, numbers, scores)
    return ranking


def found_names(
    ranking: Ranking, queries: Sequence[str], names: Sequence[str]
) -> dict[str, list[str]]:
    """Returns the ids of the documents that each query found."""
    return {
        query: [names[number] for number in ranking.documents(place)]
        for place, query in enumerate(queries)
    }


def worst_queries(
    texts: Mapping[str, str],
    gains: Gains,
    found: Mapping[str, Sequence[str]],
    measured: Measured,
    excerpts: Callable[[set[str]], Mapping[str, str]],
    show_texts: bool = True,
) -> tuple[WorstQuery, ...]:
    """Returns the ten queries of least nDCG@10, in the order of the queries where it is equal.

    Args:
        texts: The queries' texts by their ids.
        gains: Their judgments.
        found: What each found, the nearest first.
        measured: How each fares, in the order of ``texts``.
        excerpts: Gives the beginnings of documents.
        show_texts: Whether texts are shown.
    """
    values = measured.by_query["ndcg@10"]
    names = list(texts)
    worst = [names[place] for place in np.argsort(values, kind="stable")[:_WORST]]
    shown = {
        query: (found[query][:_SHOWN], _most_relevant(gains[query])[:_SHOWN]) for query in worst
    }
    wanted = {name for lists in shown.values() for some in lists for name in some}
    beginnings = excerpts(wanted) if show_texts else {}

    def told(query: str, name: str) -> ShownDocument:
        places = found[query]
        place = list(places).index(name) + 1 if name in places else None
        return ShownDocument(
            name, gains[query].get(name, 0) > 0, place, beginnings.get(name) or None
        )

    return tuple(
        WorstQuery(
            id=query,
            text=texts[query] if show_texts else None,
            measures={"ndcg@10": float(values[names.index(query)])},
            found=tuple(told(query, name) for name in shown[query][0]),
            expected=tuple(told(query, name) for name in shown[query][1]),
        )
        for query in worst
    )


def _most_relevant(gains: Mapping[str, int]) -> list[str]:
    relevant = [name for name, gain in gains.items() if gain > 0]
    return sorted(relevant, key=lambda name: (-gains[name], name))


def measure_retrieval(
    documents: Documents,
    texts: Mapping[str, str],
    ranking: Ranking,
    gains: Gains,
    unanswered: int = 0,
    show_texts: bool = True,
    about: str | None = None,
) -> Retrieval:
    """Measures how well queries found the documents that answer them.

    Args:
        documents: The documents.
        texts: The queries' texts by their ids.
        ranking: What they found, in the same order.
        gains: Their judgments, each with at least one relevant document.
        unanswered: Judged queries that were left out.
        show_texts: Whether texts of queries and documents are shown.
        about: What kind of retrieval it is, where that must be said.
    """
    found = found_names(ranking, list(texts), documents.names)
    measured = measure({query: gains[query] for query in texts}, found)
    return Retrieval(
        queries=len(texts),
        documents=len(documents.names),
        documents_from=documents.origin,
        unanswered=unanswered,
        measured=measured,
        worst=worst_queries(texts, gains, found, measured, documents.excerpts, show_texts),
        about=about,
    )
