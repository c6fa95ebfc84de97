"""How far cosines of pairs of texts follow the scores that people gave them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.search.evaluate.bootstrap import Interval, interval

_FAST = 1e-12


@dataclass(frozen=True)
class Correlation:
    """How cosines and scores of pairs go together.

    Attributes:
        pairs: How many pairs there are.
        spearman: Correlation of their ranks, from -1 to 1; None where all cosines are equal.
        pearson: Correlation of the values themselves.
        intervals: The 95 % intervals of both, by name.
    """

    pairs: int
    spearman: float | None
    pearson: float | None
    intervals: Mapping[str, Interval | None]

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures by name."""
        return {
            "pairs": self.pairs,
            "spearman": self.spearman,
            "pearson": self.pearson,
            "intervals": {
                name: None if ends is None else list(ends) for name, ends in self.intervals.items()
            },
        }


def correlate(cosines: NDArray[np.float64], scores: NDArray[np.float64]) -> Correlation:
    """Correlates cosines with scores, both of shape (pairs,)."""
    count = len(cosines)
    both = np.stack([cosines, scores])
    places = np.stack([np.unique(values, return_inverse=True)[1] for values in both])

    def spearman(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([_pearson(*map(_ranks, places[:, one])) for one in drawn])

    def pearson(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([_pearson(*both[:, one]) for one in drawn])

    figures = {"spearman": spearman, "pearson": pearson}
    all_of_them = np.arange(count)[None]
    found = {name: float(figure(all_of_them)[0]) for name, figure in figures.items()}
    return Correlation(
        pairs=count,
        spearman=None if np.isnan(found["spearman"]) else found["spearman"],
        pearson=None if np.isnan(found["pearson"]) else found["pearson"],
        intervals={name: interval(count, figure) for name, figure in figures.items()},
    )


def _ranks(places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns average ranks of values, given the place of each among all different values."""
    counts = np.bincount(places)
    middles = np.cumsum(counts) - (counts - 1) / 2
    ranks: NDArray[np.float64] = middles[places]
    return ranks


def _pearson(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Returns the correlation of two rows of values; NaN where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / lengths) if lengths > _FAST else float("nan")
