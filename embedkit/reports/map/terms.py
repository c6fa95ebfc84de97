"""The terms that tell a cluster of texts from the others."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray

_READ = 2000
"""Characters of a text that are read."""

_LONGEST = 40
_LEAST_TEXTS = 3
_IN_MOST = 0.5

# Scripts that put no spaces between words; their words are read as pairs of characters.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_RUNS = regex.compile(
    rf"(?P<pairs>(?:[{_UNSPACED}ー]\p{{M}}*)+)|(?P<word>[\p{{L}}--[{_UNSPACED}]]"
    rf"[[\p{{L}}\p{{M}}\p{{N}}'\u2019_-]--[{_UNSPACED}]]+)",
    regex.V1,
)
_CHARACTERS = regex.compile(r"\X")


def terms_in(text: str) -> list[str]:
    """Returns the words of a text in lower case, and pairs of characters where nothing parts words.

    Words begin with a letter and have two characters or more.
    """
    found = []
    for run in _RUNS.finditer(text[:_READ].lower()):
        if run.group("word") is not None:
            found.append(run.group()[:_LONGEST].rstrip("'\u2019-_"))
        else:
            characters = _CHARACTERS.findall(run.group())
            found += map("".join, pairwise(characters))
    return found


def class_terms(
    texts: Sequence[str], numbers: NDArray[np.int32], count: int = 6
) -> list[list[str]]:
    """Names clusters by class-based TF-IDF, after Grootendorst (arXiv 2203.05794, 2022).

    The weight of term t in cluster c is sqrt(tf) * log(1 + A / f): tf is the share that t has of
    the terms of c, f how often t is in all clusters and A how many terms a cluster has on average.
    The root is what BERTopic has against frequent words. Terms of more than half of the texts, and
    those of fewer than three, name nothing.

    Args:
        texts: A text per row.
        numbers: The cluster of each, from 0.
        count: Terms that a cluster gets at most.

    Returns:
        The terms of each cluster, the heaviest first; of equal ones by the alphabet.
    """
    clusters = [Counter[str]() for _ in range(int(numbers.max(initial=-1)) + 1)]
    of_texts: Counter[str] = Counter()
    for text, number in zip(texts, numbers.tolist(), strict=True):
        found = terms_in(text)
        clusters[number].update(found)
        of_texts.update(set(found))
    most = max(_LEAST_TEXTS, _IN_MOST * len(texts))
    known = {term for term, texts_of in of_texts.items() if _LEAST_TEXTS <= texts_of <= most}
    in_all: Counter[str] = Counter()
    for one in clusters:
        in_all.update(one)
    average = in_all.total() / max(1, len(clusters))

    return [_heaviest(one, known, in_all, average)[:count] for one in clusters]


def _heaviest(
    cluster: Counter[str], known: set[str], in_all: Counter[str], average: float
) -> list[str]:
    """Returns the known terms of a cluster by descending weight."""
    terms = max(1, cluster.total())
    weights = {
        term: round(math.sqrt(times / terms) * math.log1p(average / in_all[term]), 9)
        for term, times in cluster.items()
        if term in known
    }
    return sorted(weights, key=lambda term: (-weights[term], term))
