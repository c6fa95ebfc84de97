"""Words on a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.errors.urls import without_user
from embedkit.errors.wrong_kinds import words_of
from embedkit.reports.word_picture import words_page, words_plot
from embedkit.search.words import WordVectors, place_of

_NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class Projection:
    """Words as points of a plane.

    Attributes:
        words: The words.
        points: Their places, shape (words, 2).
        explained: Shares of the vectors' variance that the two directions hold.
        similarities: The cosine of each word with each, shape (words, words).
        dimension: Components of the whole vectors.
    """

    words: tuple[str, ...]
    points: NDArray[np.float64]
    explained: tuple[float, float]
    similarities: NDArray[np.float64]
    dimension: int


def project_words(vectors: WordVectors, words: Sequence[str]) -> Projection:
    """Projects words onto the two directions in which their vectors differ most (PCA).

    The sign of a direction is free; its largest component is made positive, as scikit-learn does.

    Args:
        vectors: The words that are known.
        words: The words, each counted once; two of them or more.

    Raises:
        ConfigError: A word has no vector, or there are fewer than two.
    """
    places = dict.fromkeys(place_of(vectors, word) for word in words_of("words", words))
    if len(places) < 2:
        raise ConfigError("give two words or more, whose vectors differ")
    rows = np.asarray(vectors.matrix[np.array(list(places))], dtype=np.float64)
    units = rows / np.where(lengths := np.linalg.norm(rows, axis=1), lengths, 1.0)[:, None]
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
    explained = (float(shares[0]), float(shares[1]))
    return Projection(named, points, explained, units @ units.T, rows.shape[1])


def picture_of(found: Projection, source: str, suffix: str) -> bytes:
    """Returns words on a plane as a page or a picture.

    Args:
        found: The words.
        source: Where their vectors are, as a page says.
        suffix: ``.html``, ``.png`` or ``.svg``.

    Raises:
        ConfigError: matplotlib, which draws pictures, is not installed.
    """
    if suffix == ".html":
        page = words_page(
            without_user(source),
            found.words,
            found.points,
            found.explained,
            found.similarities,
            found.dimension,
        )
        return page.encode()
    form: Literal["png", "svg"] = "png" if suffix == ".png" else "svg"
    return words_plot(found.words, found.points, found.explained, form)
