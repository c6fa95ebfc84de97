"""Words on a plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.search.words import WordVectors, place_of

_NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class Projection:
    """Words as points of a plane.

    Attributes:
        words: The words.
        points: Their places, shape (words, 2).
        explained: Shares of the vectors' variance that the two directions hold.
    """

    words: tuple[str, ...]
    points: NDArray[np.float64]
    explained: tuple[float, float]


def project_words(vectors: WordVectors, words: Sequence[str]) -> Projection:
    """Projects words onto the two directions in which their vectors differ most (PCA).

    The sign of a direction is free; its largest component is made positive, as scikit-learn does.

    Args:
        vectors: The words that are known.
        words: The words, each counted once; two of them or more.

    Raises:
        ConfigError: A word has no vector, or there are fewer than two.
    """
    places = dict.fromkeys(place_of(vectors, word) for word in words)
    if len(places) < 2:
        raise ConfigError("give two words or more, whose vectors differ")
    rows = np.asarray(vectors.matrix[np.array(list(places))], dtype=np.float64)
    rows -= rows.mean(axis=0)
    _, strengths, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    points = np.zeros((len(rows), 2))
    points[:, : len(directions)] = rows @ directions.T
    variance = np.append(strengths**2, 0.0)
    shares = variance[:2] / (variance.sum() or 1.0)
    # What is left where there is nothing is rounding.
    points[:, shares < _NOTHING] = 0.0
    named = tuple(vectors.words[place] for place in places)
    return Projection(named, points, (float(shares[0]), float(shares[1])))
