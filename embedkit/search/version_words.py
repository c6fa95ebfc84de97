"""The words of a version: of each the mean vector of its occurrences."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.explode import words_of
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.version import Version
from embedkit.encoders.static.vectors import StaticVectors
from embedkit.errors import ConfigError
from embedkit.records import SPANS_FIELD, TOKENS_FIELD
from embedkit.vectors import flat_list, vectors_of

_LOG = logging.getLogger("embedkit")
_MOST_WORDS = 500_000
"""Words of which sums are kept; with 384 components they take 1.5 GB."""


def mean_words(version: Version, most: int = _MOST_WORDS) -> StaticVectors:
    """Reads a version once, and adds up the vectors of each word, spelled as it is in the text.

    What it takes in memory grows with the number of different words, not of occurrences.

    Args:
        version: A complete version of words or tokens, with them or with texts stored.
        most: Different words that are kept; those that come up later are left out with a warning.

    Returns:
        The words, the most frequent first.

    Raises:
        ConfigError: It has one vector per row, or neither its words nor its texts are stored.
        IntegrityError: A part is gone or damaged.
    """
    manifest = read_manifest(version)
    if manifest.description.get("column") != "embeddings":
        raise ConfigError(
            f"{version.url}: has no vectors of words; run its job with --granularity word"
        )
    names = schema_of(version, manifest.parts).names if manifest.parts else []
    stored = [name for name in (TOKENS_FIELD.name, "text") if name in names][:1]
    if manifest.parts and not stored:
        raise ConfigError(
            f"{version.url}: stores neither its words nor its texts; run its job with "
            "--store-tokens or --store-text"
        )
    sums = _Sums(int(manifest.description["dimension"]), most)
    wanted = ["embeddings", SPANS_FIELD.name, "char_start", *stored]
    for batch in read_columns(version, manifest.parts, wanted):
        vectors = vectors_of(batch)
        spans, _ = flat_list(batch.column(SPANS_FIELD.name))
        rows = np.repeat(np.arange(len(vectors)), vectors.counts)
        words = words_of(batch, spans, rows)
        if words is not None and len(words):
            sums.add(words, vectors.stacked)
    if sums.left_out:
        _LOG.warning(
            "%d occurrences of words that come up behind the first %d are left out",
            sums.left_out,
            most,
        )
    return sums.means()


class _Sums:
    """Sums of vectors by word."""

    def __init__(self, width: int, most: int) -> None:
        self._most = most
        self._places: dict[str, int] = {}
        self._sums = np.zeros((0, width), np.float64)
        self._counts = np.zeros(0, np.int64)
        self.left_out = 0

    def add(self, words: Any, vectors: NDArray[Any]) -> None:
        """Adds vectors, shape (words, width), to the sums of their words, an Arrow array."""
        encoded = words.dictionary_encode()
        codes = encoded.indices.to_numpy()
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        sums = np.add.reduceat(vectors[order].astype(np.float64), starts, axis=0)
        counts = np.diff(np.append(starts, len(codes)))
        places = np.array([self._place(word) for word in encoded.dictionary.to_pylist()])
        self._grow()
        kept = places >= 0
        self.left_out += int(counts[~kept].sum())
        self._sums[places[kept]] += sums[kept]
        self._counts[places[kept]] += counts[kept]

    def _place(self, word: str) -> int:
        if len(self._places) >= self._most:
            return self._places.get(word, -1)
        return self._places.setdefault(word, len(self._places))

    def _grow(self) -> None:
        room = len(self._counts)
        if room < len(self._places):
            more = max(len(self._places), min(2 * room, self._most)) - room
            self._sums = np.concatenate([self._sums, np.zeros((more, self._sums.shape[1]))])
            self._counts = np.concatenate([self._counts, np.zeros(more, np.int64)])

    def means(self) -> StaticVectors:
        """Returns the mean of each word, the most frequent words first."""
        words = list(self._places)
        counts = self._counts[: len(words)]
        order = np.argsort(-counts, kind="stable")
        means = self._sums[order] / counts[order][:, None]
        return StaticVectors([words[place] for place in order], means.astype(np.float32), False)
