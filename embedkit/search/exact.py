"""Exact nearest neighbours, part by part: every row is compared, few are in memory at a time."""

import heapq
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import chain
from itertools import count as count_from
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.blas import blas_on_one_thread
from embedkit.config import RESERVED_COLUMNS
from embedkit.dataset.manifest import Manifest, Part, read_manifest
from embedkit.dataset.parquet import read_whole
from embedkit.dataset.rows import opened_part, read_columns
from embedkit.dataset.version import Version
from embedkit.encoders.hardware import usable_cores
from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import whole_number
from embedkit.records import LINE_FIELD, UNKNOWN_FIELD, counts_unknown
from embedkit.vectors import vectors_of

METRICS = ("cosine", "dot", "euclidean", "manhattan")
ROWS_AT_ONCE = 4096
QUERIES_AT_ONCE = 1024
_PARTS_AT_ONCE = 8

_PLACE = ("id", "doc_id", "source", "row_index", "char_start", "char_end")


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        id: The row's id.
        doc_id: The document it is of.
        score: How near it is by the dataset's metric: cosine, dot product, or the negative of the
            Euclidean or Manhattan distance; higher is nearer.
        source: The input file.
        row_index: The record's place in it.
        char_start: Where the row's text begins in the document.
        char_end: Where it ends.
        text: The text, where the dataset stores it.
        metadata: The user's metadata columns.
        line: The line that the record begins with, counted as ``LINE_FIELD``; in the file where
            the manifest was asked as well, as ``search_text`` does.
        place: What ``row_index`` says, for a person.
        rerank_score: The cross-encoder's score of query and text, where one put hits in order.
    """

    id: str
    doc_id: str
    score: float
    source: str
    row_index: int
    char_start: int
    char_end: int
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    line: int | None = None
    place: str = ""
    rerank_score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the hit as JSON values; metadata of other types becomes text."""
        found = asdict(self)
        if self.rerank_score is None:
            del found["rerank_score"]
        found["metadata"] = {
            name: value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
            for name, value in self.metadata.items()
        }
        return found


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A row's rank: better scores first, equal ones by id.

    Attributes:
        distance: The negative of its score.
        id: Its id.
        part: The number of its part.
        row: Its place in the part.
    """

    distance: float
    id: str
    part: int
    row: int


def check_one_vector_per_row(manifest: Manifest, who: str = "search") -> None:
    """Checks that a version has what a query can be compared with.

    Args:
        manifest: The version's manifest.
        who: What needs it.

    Raises:
        ConfigError: Its rows have lists of vectors, or scores.
    """
    column = manifest.description.get("column", "embedding")
    if column == "embedding":
        return
    what = "scores" if column in ("score", "scores") else "vectors of words or tokens"
    if of := manifest.description.get("granularity"):
        what = f"vectors of {of}s"
    lists = "; `embedkit explode` makes one row of each of them" if column == "embeddings" else ""
    raise ConfigError(
        f"{manifest.version} holds {what}, and {who} needs a version with one vector per document "
        f"or chunk{lists}"
    )


def search(version: Version, queries: NDArray[np.float32], k: int) -> list[list[Hit]]:
    """Finds the rows nearest to each query, exactly.

    Scores are computed in float64, each row by itself, so equal vectors have equal scores
    wherever they stand, and rows of equal score come in the order of their ids.

    Args:
        version: A complete version.
        queries: Vectors of the dataset's model, shape (queries, dimension); one vector of shape
            (dimension,) is one query.
        k: Most hits per query.

    Returns:
        Per query its hits, best first; fewer than ``k`` where the version has fewer rows.

    Raises:
        ConfigError: The version is not complete or has other than one vector per row, the queries
            have another dimension or are not finite, or ``k`` is no positive whole number.
        IntegrityError: A part is damaged or missing.
    """
    manifest = read_manifest(version)
    check_one_vector_per_row(manifest)
    queries = checked_queries(queries, k, manifest)
    scorer = _Scorer(queries, manifest.description["metric"])
    best = _Best(len(queries), k)

    def compare(number: int, part: Part) -> None:
        first_row = 0
        for ids, vectors in _vectors(version, part):
            best.add(scorer, ids, vectors, number, first_row)
            first_row += len(ids)

    # A thread decodes some 350 MB/s, which is less than it compares.
    count = min(usable_cores(), _PARTS_AT_ONCE, max(1, len(manifest.parts)))
    with (
        blas_on_one_thread() if count > 1 else nullcontext(),
        ThreadPoolExecutor(count, thread_name_prefix="search") as threads,
    ):
        for _ in threads.map(compare, count_from(0), manifest.parts):
            pass
    return read_hits(version, manifest, best.hits)


def read_hits(
    version: Version, manifest: Manifest, found: list[list[Candidate]]
) -> list[list[Hit]]:
    """Reads the other columns of rows that were found.

    Args:
        version: The version.
        manifest: Its manifest.
        found: The rows of each query.

    Raises:
        IntegrityError: A part is damaged or missing, or has another row in that place.
    """
    rows = _found_rows(version, manifest, found)
    return [
        [_hit(candidate, rows[candidate.part, candidate.row]) for candidate in hits]
        for hits in found
    ]


class _Scorer:
    """Scores rows against queries: fast with a known error, or exactly."""

    def __init__(self, queries: NDArray[np.float32], metric: str) -> None:
        self._metric = metric
        exact = queries.astype(np.float64)
        self._queries = exact / _lengths(exact)[:, None] if metric == "cosine" else exact
        self._fast_queries = self._queries.astype(np.float32)
        self._query_lengths = _lengths(self._queries)

    def fast(
        self, vectors: NDArray[np.float32], group: slice
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
        """Returns scores, shape (queries, rows), and per query a bound of their error.

        The bound is that of a dot product of n terms in floating point, n u |a| |b| (Higham,
        Accuracy and Stability of Numerical Algorithms, section 3.1), with some room for the
        rounding of its operands and of the division by the length.
        """
        count = len(self._fast_queries[group])
        if self._metric in ("euclidean", "manhattan"):
            numbers = range(group.start, group.start + count)
            return np.stack([self.exact(vectors, n) for n in numbers]), np.zeros(count)
        vectors = vectors.astype(np.float32, copy=False)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        scores: NDArray[np.float32] = (vectors @ self._fast_queries[group].T).T
        longest = 1.0
        if self._metric == "cosine":
            scores /= np.where(lengths > 0, lengths, 1)
        else:
            longest = float(lengths.max())
        unit_roundoff = float(np.finfo(np.float32).eps) / 2
        terms = 2 * (vectors.shape[1] + 8)
        return scores, terms * unit_roundoff * longest * self._query_lengths[group]

    def exact(self, vectors: NDArray[np.float32], query: int) -> NDArray[np.float64]:
        """Returns the scores of rows against one query; a row's score depends on it alone."""
        rows, wanted = vectors.astype(np.float64), self._queries[query]
        scores: NDArray[np.float64]
        match self._metric:
            case "euclidean":
                scores = -np.linalg.norm(rows - wanted, axis=1)
            case "manhattan":
                scores = -np.abs(rows - wanted).sum(axis=1)
            case "dot":
                scores = (rows * wanted).sum(axis=1)
            case _:
                scores = (rows * wanted).sum(axis=1) / _lengths(rows)
        return scores


class _Best:
    """The best candidates of every query so far; several threads may add to it."""

    def __init__(self, queries: int, k: int) -> None:
        self.hits: list[list[Candidate]] = [[] for _ in range(queries)]
        # The score that a row must have to be among them.
        self._least = np.full(queries, -np.inf)
        self._k = k
        self._lock = Lock()

    def add(
        self,
        scorer: _Scorer,
        ids: pa.Array,
        vectors: NDArray[np.float32],
        part: int,
        first_row: int,
    ) -> None:
        """Compares rows with every query and keeps those that are among its best."""
        for start in range(0, len(self.hits), QUERIES_AT_ONCE):
            group = slice(start, start + QUERIES_AT_ONCE)
            scores, errors = scorer.fast(vectors, group)
            # After some rows few others are among the best of any query.
            near = np.fmax.reduce(scores, axis=1) >= self._least[group] - errors
            for query in np.flatnonzero(near).tolist():
                rows = self._contenders(start + query, scores[query], float(errors[query]))
                exact = scorer.exact(vectors[rows], start + query)
                candidates = [
                    Candidate(-score, ids[row].as_py(), part, first_row + row)
                    for row, score in zip(rows.tolist(), exact.tolist(), strict=True)
                ]
                self._keep(start + query, candidates)

    def _keep(self, query: int, candidates: list[Candidate]) -> None:
        with self._lock:
            hits = heapq.nsmallest(self._k, [*self.hits[query], *candidates])
            self.hits[query] = hits
            if len(hits) == self._k:
                self._least[query] = -hits[-1].distance

    def _contenders(
        self, query: int, scores: NDArray[np.float32], error: float
    ) -> NDArray[np.intp]:
        """Returns the rows that may be among the best, given the error of their scores."""
        threshold = float(self._least[query]) - error
        if len(scores) > self._k:
            place = len(scores) - self._k
            threshold = max(threshold, float(np.partition(scores, place)[place]) - 2 * error)
        return np.flatnonzero(scores >= threshold)


def checked_queries(
    queries: NDArray[np.float32], k: int, manifest: Manifest
) -> NDArray[np.float32]:
    """Returns queries of a version as float32, shape (queries, dimension).

    Args:
        queries: Vectors of that shape, or one of shape (dimension,).
        k: Most hits per query.
        manifest: The version's manifest.

    Raises:
        ConfigError: They have another dimension or are not finite, ``k`` is no positive whole
            number, or the version's metric is none that is known.
    """
    no_vectors = "queries: no vectors; expected numbers of shape (queries, dimension), or one text"
    try:
        given = np.asarray(queries)
        if given.dtype.kind not in "fiuO" or not given.ndim or np.ma.is_masked(queries):
            raise ConfigError(no_vectors)
        queries = np.atleast_2d(given.astype(np.float32))
    except (TypeError, ValueError) as error:
        raise ConfigError(no_vectors) from error
    dimension = manifest.description["dimension"]
    metric = manifest.description["metric"]
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise ConfigError(
            f"queries of shape {queries.shape}: the vectors of {manifest.version} have {dimension} "
            "components; encode the queries with the dataset's own model"
        )
    if not np.isfinite(queries).all():
        raise ConfigError("a query's vector is not finite; encode it again")
    whole_number("k", k)
    if metric not in METRICS:
        raise ConfigError(f"metric {metric!r} cannot be searched; expected {' or '.join(METRICS)}")
    return queries


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the lengths of rows, 1 for a row of zeros, by which they can be divided."""
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1)
    return np.where(lengths > 0, lengths, 1.0)


def _vectors(version: Version, part: Part) -> Iterator[tuple[pa.Array, NDArray[np.float32]]]:
    for batch in read_columns(version, [part], ["id", "embedding"], ROWS_AT_ONCE):
        yield batch.column("id"), vectors_of(batch).matrix


def _found_rows(
    version: Version, manifest: Manifest, hits: list[list[Candidate]]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Reads the other columns of the rows that were found, by part and row."""
    wanted: dict[int, set[int]] = {}
    for candidate in chain.from_iterable(hits):
        wanted.setdefault(candidate.part, set()).add(candidate.row)
    found = {}
    for part, rows in sorted(wanted.items()):
        with opened_part(version, manifest.parts[part]) as file:
            for row, values in _take(file, sorted(rows)):
                found[part, row] = values
    return found


def _take(file: pq.ParquetFile, rows: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    schema = file.schema_arrow
    unwanted = {"embedding", *([UNKNOWN_FIELD.name] if counts_unknown(schema) else [])}
    columns = [name for name in schema.names if name not in unwanted]
    first = 0
    for group in range(file.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        here = [row for row in rows if first <= row < end]
        if here:
            table = read_whole(file, columns, group)
            # By numbers that Arrow converts, take would import pandas, as to_numpy does.
            yield from ((row, table.slice(row - first, 1).to_pylist()[0]) for row in here)
        first = end


def _hit(candidate: Candidate, row: dict[str, Any]) -> Hit:
    return Hit(
        **{name: row[name] for name in _PLACE},
        score=-candidate.distance,
        text=row.get("text"),
        line=row.get(LINE_FIELD.name),
        metadata={name: value for name, value in row.items() if name not in RESERVED_COLUMNS},
    )
