"""The senses of a word: its occurrences in a version, clustered by their vectors."""

import heapq
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError
from embedkit.errors.urls import without_user
from embedkit.hashes.digests import hash_of
from embedkit.reports.senses_page import senses_page
from embedkit.search.words import SimilarWord
from embedkit.vectors import Vectors, flat_list

_MOST_OCCURRENCES = 2_000
_MOST_SENSES = 6
_LEAST_SILHOUETTE = 0.1
"""Below it the best clusters are no more than a cut through one cloud."""

_AROUND = 100
"""Characters of the text that are shown on either side of an occurrence."""

_EXAMPLES = 5
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Occurrence:
    """A word in a text.

    Attributes:
        id: Id of the row.
        doc_id: Id of the document.
        char_start: Where it begins in the document.
        char_end: Where it ends.
        word: The word as it is written there.
        before: The text before it, as much as is shown; empty where the version stores no text.
        after: The text behind it, likewise.
    """

    id: str
    doc_id: str
    char_start: int
    char_end: int
    word: str
    before: str = ""
    after: str = ""

    @property
    def line(self) -> str:
        """The word with the text around it, on one line."""
        return " ".join(f"{self.before}{self.word}{self.after}".split())


@dataclass(frozen=True)
class Sense:
    """Occurrences of a word that are near to each other.

    Attributes:
        occurrences: How many they are.
        similarity: Mean cosine of two of them; None where there is only one.
        examples: Those nearest to their centre, nearest first.
    """

    occurrences: int
    similarity: float | None
    examples: tuple[Occurrence, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Senses:
    """The senses of a word in a version.

    Attributes:
        word: The word.
        occurrences: How often it occurs in the version.
        sampled: Occurrences that were clustered: all, or 2,000 of them chosen by hash.
        within: Mean cosine of two occurrences of one sense; None where no sense has two.
        between: Mean cosine of two occurrences of different senses; None where there is one sense.
        silhouette: Mean silhouette of the clusters, from -1 to 1; None where there is one sense.
        senses: The most frequent first.
        points: The clustered occurrences on the plane in whose directions they differ most (PCA),
            shape (sampled, 2).
        labels: The sense of each of them, as a place in ``senses``, shape (sampled,).
        shown: The occurrences themselves.
    """

    word: str
    occurrences: int
    sampled: int
    within: float | None
    between: float | None
    silhouette: float | None
    senses: tuple[Sense, ...]
    points: NDArray[np.float64] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    shown: tuple[Occurrence, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns it for programs, without the single occurrences."""
        arrays = ("points", "labels", "shown")
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in arrays}
        return plain | {"senses": [asdict(sense) for sense in self.senses]}

    def lines(self) -> list[str]:
        """Returns it for people, a line for each fact and each example."""
        said = [f"{self.word}: {self.occurrences:,} occurrences, {len(self.senses)} senses"]
        if self.within is not None:
            said.append(f"similarity within a sense  {self.within:.3f}")
        if self.between is not None:
            said.append(f"similarity between senses  {self.between:.3f}")
        for number, sense in enumerate(self.senses, 1):
            said.append(f"sense {number}: {sense.occurrences:,} occurrences")
            said += [f"  {one.id}  {one.line}" for one in sense.examples]
        return said


def word_senses(root: str | os.PathLike[str], word: str, count: int | None = None) -> Senses:
    """Clusters the occurrences of a word in a version of word vectors into senses.

    Vectors are scaled to length 1, centred, scaled again and clustered by Ward's method; how many
    senses there are is told by the best mean silhouette (Rousseeuw, 1987). One is taken where none
    reaches 0.1.

    Args:
        root: The dataset's root, or one version of it, of ``granularity`` word.
        word: The word, in whatever case.
        count: How many senses to tell apart, if that is known.

    Raises:
        ConfigError: There is no such version, its vectors are not of words, it does not tell which
            words they are, or has none of this word.
        IntegrityError: A part is gone or damaged.
    """
    version = find_version(root)
    manifest = read_manifest(version)
    found, total = _sample(_occurrences(version, manifest, word))
    if not found:
        raise ConfigError(
            f"{version.url}: no vector of the word {word!r} in it; look for another word, or run "
            "the job with --words that name this one, or without"
        )
    vectors = np.array([vector for _, vector in found], dtype=np.float64)
    labels, silhouette = cluster(vectors, count)
    cosines = _cosines(vectors)
    return Senses(
        word=word,
        occurrences=total,
        sampled=len(found),
        within=_mean(cosines, labels[:, None] == labels),
        between=_mean(cosines, labels[:, None] != labels),
        silhouette=silhouette,
        senses=tuple(_senses([one for one, _ in found], cosines, labels)),
        points=_plane(vectors),
        labels=labels,
        shown=tuple(one for one, _ in found),
    )


def page_of(
    found: Senses,
    source: str | os.PathLike[str],
    static: str | None = None,
    beside: Sequence[SimilarWord] | None = None,
) -> str:
    """Renders senses as an HTML page.

    Args:
        found: The senses.
        source: Where they were found, as a person named it.
        static: Where static vectors are.
        beside: The words most similar to the word there.
    """
    similar = [one.to_dict() for one in beside or ()]
    return senses_page(
        without_user(os.fspath(source)),
        found.to_dict(),
        found.points,
        found.labels,
        [one.line for one in found.shown],
        None if beside is None else {"source": without_user(static or ""), "similar": similar},
    )


def cluster(
    vectors: NDArray[np.float64], count: int | None = None
) -> tuple[NDArray[np.int64], float | None]:
    """Clusters vectors by their directions from their mean, see ``word_senses``.

    Args:
        vectors: Shape (n, width).
        count: How many clusters; as the silhouette says unless given.

    Returns:
        The cluster of each, from 0, the largest first, shape (n,); and the mean silhouette, None
        of one cluster.

    Raises:
        ConfigError: ``scikit-learn`` is not installed, or there are fewer vectors than clusters.
    """
    if count is not None and not 1 <= count <= len(vectors):
        raise ConfigError(f"{count} senses of {len(vectors)} occurrences; ask for fewer")
    one = np.zeros(len(vectors), dtype=np.int64)
    directions = _from_the_mean(vectors)
    if count == 1 or len(vectors) < 3 or not directions.any():
        return one, None
    most = min(_MOST_SENSES, len(vectors) - 1)
    counts = range(2, most + 1) if count is None else [count]
    tried = [(_silhouette(directions, labels), labels) for labels in _labels(directions, counts)]
    best, labels = max(tried, key=lambda one: one[0])
    if count is None and best < _LEAST_SILHOUETTE:
        return one, None
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels], best


def _labels(directions: NDArray[np.float64], counts: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    try:
        from sklearn.cluster import AgglomerativeClustering
    except ModuleNotFoundError as error:
        raise ConfigError(
            "senses are clustered by scikit-learn, which is not installed; install the extra words "
            "of embedkit-batch"
        ) from error
    for count in counts:
        yield AgglomerativeClustering(count, linkage="ward").fit_predict(directions)


def _silhouette(directions: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    from sklearn.metrics import silhouette_score

    if len(np.unique(labels)) == len(labels):
        return 0.0
    return float(silhouette_score(directions, labels, metric="cosine"))


def _occurrences(
    version: Version, manifest: Manifest, word: str
) -> Iterator[tuple[Occurrence, NDArray[Any]]]:
    """Yields the occurrences of a word and their vectors, batch by batch."""
    names = schema_of(version, manifest.parts).names
    if manifest.description.get("granularity") != "word":
        raise ConfigError(
            f"{version.url}: its vectors are not of words; run the job with --granularity word and "
            "--store-text"
        )
    texts = [name for name in ("tokens", "text") if name in names]
    if not texts:
        raise ConfigError(
            f"{version.url}: does not tell which words its vectors are of; run the job with "
            "--store-text, or with --store-tokens"
        )
    columns = ["id", "doc_id", "char_start", "embeddings", "spans", *texts]
    folded = _folded(word)
    for batch in read_columns(version, manifest.parts, columns, 1024):
        yield from _in_batch(batch, folded)


def _in_batch(batch: pa.RecordBatch, folded: str) -> Iterator[tuple[Occurrence, NDArray[Any]]]:
    vectors = Vectors.from_arrow(batch.column("embeddings"))
    spans, offsets = flat_list(batch.column("spans"))
    starts, ends = (spans.field(name).to_numpy() for name in ("char_start", "char_end"))
    names = batch.schema.names
    words = flat_list(batch.column("tokens"))[0].to_pylist() if "tokens" in names else None
    rows = batch.select([n for n in ("id", "doc_id", "char_start", "text") if n in names])
    for number, row in enumerate(rows.to_pylist()):
        text, shift = row.get("text", ""), row["char_start"]
        for place in range(int(offsets[number]), int(offsets[number + 1])):
            start, end = int(starts[place]), int(ends[place])
            written = text[start - shift : end - shift] if words is None else words[place]
            if _folded(written) != folded:
                continue
            before, after = _around(text, start - shift, end - shift)
            found = Occurrence(row["id"], row["doc_id"], start, end, written, before, after)
            yield found, np.array(vectors.stacked[place])


def _folded(word: str) -> str:
    """Returns what is equal of a word in any case, its letters composed or decomposed."""
    return unicodedata.normalize("NFC", word.casefold())


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    if not text:
        return "", ""
    before, after = text[:start][-_AROUND:], text[end : end + _AROUND]
    return (
        ("" if start <= _AROUND else "\u2026") + before,
        after + ("" if len(text) <= end + _AROUND else "\u2026"),
    )


def _sample(
    occurrences: Iterator[tuple[Occurrence, NDArray[Any]]],
) -> tuple[list[tuple[Occurrence, NDArray[Any]]], int]:
    """Returns all occurrences, or as many as are clustered, and how many there are."""
    total = 0
    kept: list[tuple[int, int, tuple[Occurrence, NDArray[Any]]]] = []
    for found in occurrences:
        total += 1
        key = int.from_bytes(hash_of(f"{found[0].id}:{found[0].char_start}".encode(), 8), "big")
        if len(kept) < _MOST_OCCURRENCES:
            heapq.heappush(kept, (-key, total, found))
        elif -key > kept[0][0]:
            heapq.heapreplace(kept, (-key, total, found))
    return [found for _, _, found in sorted(kept, key=lambda one: one[1])], total


def _senses(
    occurrences: list[Occurrence], cosines: NDArray[np.float64], labels: NDArray[np.int64]
) -> Iterator[Sense]:
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        inside = cosines[np.ix_(members, members)]
        # The mean cosine to all members grows with that to their centre.
        nearest = members[np.argsort(-inside.sum(axis=1), kind="stable")][:_EXAMPLES]
        yield Sense(
            occurrences=len(members),
            similarity=_mean(inside, np.ones_like(inside, dtype=np.bool_)),
            examples=tuple(occurrences[place] for place in nearest),
        )


def _from_the_mean(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    directions = _unit(vectors)
    centred = directions - directions.mean(axis=0)
    # Equal vectors differ by rounding alone.
    centred[np.abs(centred).max(axis=1) < _ROUNDING] = 0.0
    return _unit(centred)


def _plane(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Projects directions onto the two in which they differ most, shape (n, 2)."""
    centred = _from_the_mean(vectors)
    centred = centred - centred.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = (
        axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(1)])[:, None]
    )
    points = np.zeros((len(vectors), 2))
    points[:, : len(axes)] = centred @ axes.T
    return points


def _cosines(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    directions = _unit(vectors)
    cosines: NDArray[np.float64] = directions @ directions.T
    return cosines


def _mean(cosines: NDArray[np.float64], pairs: NDArray[np.bool_]) -> float | None:
    """Returns the mean over pairs of two different ones, or None where there are none."""
    chosen = np.triu(pairs, 1)
    return float(cosines[chosen].mean()) if chosen.any() else None


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
