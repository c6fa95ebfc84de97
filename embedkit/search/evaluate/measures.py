"""Measures of rankings, by ir-measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.search.evaluate.bootstrap import Interval, interval_of_mean

NAMES = ("ndcg@10", "recall@100", "mrr@10", "map")
"""Measures, as reports name them."""

DEPTH = 1000
"""Documents of a ranking that are looked at, as trec_eval does."""


@dataclass(frozen=True)
class Measured:
    """Measures of the rankings of some queries.

    Attributes:
        by_query: Of each measure the value of every query, float64, shape (queries,).
    """

    by_query: Mapping[str, NDArray[np.float64]]

    @property
    def means(self) -> dict[str, float]:
        """The mean of each measure over all queries."""
        return {name: float(values.mean()) for name, values in self.by_query.items()}

    def intervals(self) -> dict[str, Interval | None]:
        """Returns the 95 % interval of each mean, by a bootstrap over queries."""
        return {name: interval_of_mean(values) for name, values in self.by_query.items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns the means by their names, and the intervals."""
        ends = {name: None if one is None else list(one) for name, one in self.intervals().items()}
        return {**self.means, "intervals": ends}


def check_measures() -> None:
    """Checks that ir-measures is installed.

    Raises:
        ConfigError: It is not.
    """
    try:
        import ir_measures  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "measures of retrieval need the package ir-measures; pip install "
            "'embedkit-batch[evaluate]'"
        ) from error


def measure(
    gains: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[str]]
) -> Measured:
    """Measures rankings as trec_eval does: nDCG with linear gain, relevant is above 0.

    Args:
        gains: Of each query the judged documents and how relevant each is.
        rankings: Of each query the documents that were found, the nearest first, each once; the
            first 1,000 of them count.
    """
    import ir_measures

    wanted = dict(
        zip(
            (ir_measures.nDCG @ 10, ir_measures.R @ 100, ir_measures.RR @ 10, ir_measures.AP),
            NAMES,
            strict=True,
        )
    )
    # The order alone counts: equal scores would be put in another one.
    run = {
        query: {name: float(-place) for place, name in enumerate(found[:DEPTH])}
        for query, found in rankings.items()
    }
    places = {query: place for place, query in enumerate(gains)}
    by_query = {name: np.zeros(len(places)) for name in NAMES}
    judged = {query: dict(of) for query, of in gains.items()}
    for found in ir_measures.iter_calc(list(wanted), judged, run):
        by_query[wanted[found.measure]][places[found.query_id]] = found.value
    return Measured(by_query)
