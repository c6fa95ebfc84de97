"""What is asked of vectors of words: the most similar ones, analogies, the odd one out, a plane.

Similarity is the cosine. Words combine as in word2vec's own programs: the mean of unit vectors,
those of words that are taken away negated (Mikolov, Yih and Zweig, Linguistic Regularities in
Continuous Space Word Representations, 2013); ``most_similar`` and ``doesnt_match`` of gensim do the
same.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import whole_number, words_of
from embedkit.search.spelling import near_spellings, variants

_LOG = logging.getLogger("embedkit")
_LONGEST_SHOWN = 60
_ROUNDING = 1e-5
"""More than single precision moves a cosine; words so near to the last that counts are looked at
again in double precision."""


class WordVectors(Protocol):
    """Words and their vectors."""

    @property
    def words(self) -> Sequence[str]:
        """The words, more frequent ones first where that is known."""
        ...

    @property
    def matrix(self) -> NDArray[np.float32]:
        """One vector per word, shape (words, components)."""
        ...

    def index_of(self, word: str) -> int | None:
        """Returns a word's place, or None where it has no vector."""
        ...


@dataclass(frozen=True, slots=True)
class SimilarWord:
    """A word and how similar it is to what was asked for.

    Attributes:
        word: The word.
        similarity: The cosine, from -1 to 1.
    """

    word: str
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """Returns it for programs."""
        return asdict(self)


def similar_words(vectors: WordVectors, word: str, k: int = 10) -> list[SimilarWord]:
    """Finds the words most similar to a word.

    Args:
        vectors: The words.
        word: The word, which is not among the answers.
        k: How many are found, if there are so many.

    Raises:
        ConfigError: The word has no vector.
    """
    return combined_words(vectors, [word], [], k)


def combined_words(
    vectors: WordVectors, positive: Sequence[str], negative: Sequence[str], k: int = 10
) -> list[SimilarWord]:
    """Finds the words most similar to a sum of words, such as king - man + woman.

    Args:
        vectors: The words.
        positive: Words that are added.
        negative: Words that are taken away. None of either is among the answers.
        k: How many are found, if there are so many.

    Raises:
        ConfigError: A word has no vector, or the words cancel each other out; or an argument is of
            another kind.
    """
    positive, negative = words_of("positive", positive), words_of("negative", negative)
    if not positive and not negative:
        raise ConfigError("no words to add or take away; give some")
    places = [place_of(vectors, word) for word in (*positive, *negative)]
    signs = np.repeat([1.0, -1.0], [len(positive), len(negative)])
    wanted = signs @ _units(vectors, places)
    length = float(np.linalg.norm(wanted))
    if not np.isfinite(length):
        raise ConfigError(
            f"{', '.join((*positive, *negative))}: a vector of these words is not finite; make the "
            "model anew"
        )
    if length < _ROUNDING:
        raise ConfigError(
            f"{', '.join((*positive, *negative))}: nothing is left of these words' vectors; they "
            "cancel each other out"
        )
    return _nearest(vectors, wanted / length, whole_number("k", k), set(places))


def ranked_by_centrality(vectors: WordVectors, words: Sequence[str]) -> list[SimilarWord]:
    """Ranks words by their similarity to the mean of all of them; the last does not match.

    Args:
        vectors: The words that are known.
        words: The words, two or more.

    Raises:
        ConfigError: A word has no vector, or there are fewer than two.
    """
    words = words_of("words", words)
    if len(words) < 2:
        raise ConfigError("give two words or more, of which one does not match the others")
    units = _units(vectors, [place_of(vectors, word) for word in words])
    mean = units.mean(axis=0)
    similarity = units @ (mean / (np.linalg.norm(mean) or 1.0))
    # Of equal ones the later word in the alphabet is more central, as gensim has it.
    ranked = sorted(zip(similarity.tolist(), words, strict=True), reverse=True)
    return [SimilarWord(word, score) for score, word in ranked]


def place_of(vectors: WordVectors, word: str) -> int:
    """Returns the place of a word, or of its only spelling in other letters that has a vector.

    Raises:
        ConfigError: Neither has one.
    """
    for spelling in variants(word):
        place = vectors.index_of(spelling)
        if place is not None and spelling == word:
            return place
        if place is not None:
            _LOG.info("%s has no vector of its own; that of %s is taken", word, spelling)
            return place
    shown = word if len(word) <= _LONGEST_SHOWN else word[:_LONGEST_SHOWN] + "…"
    near = near_spellings(word, vectors.words)
    named = f"did you mean {' or '.join(near)}?" if near else "and none is spelled like it"
    raise ConfigError(f"{shown!r} is none of the {len(vectors.words):,} words here; {named}")


def _units(vectors: WordVectors, places: Sequence[int]) -> NDArray[np.float64]:
    rows = np.asarray(vectors.matrix[np.asarray(places)], dtype=np.float64)
    return rows / _lengths(rows)[:, None]


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the lengths of rows, 1 for a row of zeros, by which they can be divided."""
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return np.where(lengths > 0, lengths, 1.0)


def _nearest(
    vectors: WordVectors, wanted: NDArray[np.float64], k: int, left_out: set[int]
) -> list[SimilarWord]:
    matrix = np.asarray(vectors.matrix)
    with np.errstate(all="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
        rough = matrix @ wanted.astype(np.float32) / np.where(lengths > 0, lengths, 1)
    rough[~np.isfinite(rough)] = -np.inf
    rough[list(left_out)] = -np.inf
    most = min(k, int(np.isfinite(rough).sum()))
    if most < 1:
        return []
    place = len(rough) - most
    threshold = np.partition(rough, place)[place] - _ROUNDING
    places = np.flatnonzero(rough >= threshold)
    exact = _units(vectors, places.tolist()) @ wanted
    best = sorted(zip((-exact).tolist(), places.tolist(), strict=True))[:most]
    return [SimilarWord(vectors.words[place], -distance) for distance, place in best]
