"""A version held against everything that it is asked to be."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.config import EvaluationConfig
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, InputError
from embedkit.errors.wrong_kinds import check_kind
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.lazy import lazy_property
from embedkit.quantization import QUANTIZED
from embedkit.search.evaluate.benchmark import Benchmark, read_benchmark, read_documents
from embedkit.search.evaluate.correlation import Correlation, correlate
from embedkit.search.evaluate.documents import Documents, EncodedDocuments, VersionDocuments
from embedkit.search.evaluate.known_items import KnownItems, known_items, vectors_of_rests
from embedkit.search.evaluate.measures import check_measures
from embedkit.search.evaluate.pairs import ScoredPairs, read_pairs
from embedkit.search.evaluate.retrieval import Gains, Retrieval, measure_retrieval, rank
from embedkit.search.evaluate.storage import StorageCost, sampled_queries, storage_costs
from embedkit.search.exact import METRICS, check_one_vector_per_row
from embedkit.search.query import document_model, query_model
from embedkit.search.scores import directions, scores_of

_KNOWN_ITEMS = "known_items"
_NOT_IN_NAMES = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Evaluation:
    """What a version is worth, as far as was asked.

    Attributes:
        sts: Correlations with people's scores, by the name of the file.
        retrieval: Measures of retrieval, by the name of the folder.
        known_items: Measures of queries that were made from the corpus itself.
        storage: What each way to store vectors costs, by the name of the queries: a folder's,
            ``known_items``, or ``rows`` where rows of the version are the queries.
    """

    sts: Mapping[str, Correlation] = field(default_factory=dict)
    retrieval: Mapping[str, Retrieval] = field(default_factory=dict)
    known_items: Retrieval | None = None
    storage: Mapping[str, Mapping[str, StorageCost]] = field(default_factory=dict)

    @property
    def least(self) -> dict[str, float]:
        """The least of each figure over all files and folders, which a limit is held against."""
        values: dict[str, list[float]] = {}
        for correlation in self.sts.values():
            if correlation.spearman is not None:
                values.setdefault("spearman", []).append(correlation.spearman)
        for one in self.retrieval.values():
            for name, value in one.measured.means.items():
                values.setdefault(name, []).append(value)
        return {name: min(some) for name, some in values.items()}

    def to_dict(self) -> dict[str, Any]:
        """Returns what was asked, by name."""
        found = {
            **self.least,
            "sts": {name: one.to_dict() for name, one in self.sts.items()},
            "retrieval": {name: one.to_dict() for name, one in self.retrieval.items()},
            "known_items": {} if self.known_items is None else self.known_items.to_dict(),
            "storage": {
                name: {way: cost.to_dict() for way, cost in costs.items()}
                for name, costs in self.storage.items()
            },
        }
        return {name: one for name, one in found.items() if one != {}}


@dataclass(frozen=True)
class Labels:
    """Labels, read and found usable before any model is loaded.

    Attributes:
        pairs: Pairs with people's scores, by the name of the file.
        benchmarks: Judged queries, by the name of the folder.
    """

    pairs: Mapping[str, ScoredPairs]
    benchmarks: Mapping[str, Benchmark]


@dataclass(frozen=True)
class EvaluatedVersion:
    """A version, and what it is worth.

    Attributes:
        version: Its name.
        url: Its folder.
        model: Its model, as the job named it.
        evaluation: What it is worth.
    """

    version: str
    url: str
    model: str
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values; figures have the paths that they have in ``report.json``."""
        return {
            "version": self.version,
            "url": self.url,
            "model": self.model,
            "evaluation": self.evaluation.to_dict(),
        }


def evaluate_version(
    root: str | os.PathLike[str],
    config: EvaluationConfig,
    model: str | os.PathLike[str] | None = None,
) -> EvaluatedVersion:
    """Holds a complete version against labels.

    Args:
        root: The dataset's root, for its newest version, or one version of it.
        config: What it is held against.
        model: The model's directory, where it is no longer where the run found it.

    Raises:
        ConfigError: Nothing is asked, there is no such version or model, the model is another one,
            the version has other than one vector per row, or a package is missing.
        InputError: A file of labels cannot be used.
        IntegrityError: A part is gone or damaged.
    """
    version = find_version(root)
    manifest = read_manifest(version)
    evaluation = evaluate(version, manifest, config, model)
    return EvaluatedVersion(
        version.name, version.url, str(manifest.description["model"]), evaluation
    )


def evaluate(
    version: Version,
    manifest: Manifest,
    config: EvaluationConfig,
    model: str | os.PathLike[str] | None = None,
    show_texts: bool = True,
    labels: Labels | None = None,
) -> Evaluation:
    """Holds a complete version against labels, see ``evaluate_version``.

    Args:
        version: The version.
        manifest: Its manifest.
        config: What it is held against.
        model: The model's directory, where it is no longer where the run found it.
        show_texts: Whether texts of queries and documents are shown.
        labels: The labels, where they were read before.
    """
    check_evaluation(manifest, config)
    labels = labels or read_labels(config)
    held = _Held(version, manifest, config, model, show_texts)
    sources = {name: held.documents_of(one) for name, one in labels.benchmarks.items()}
    items = None
    if config.known_items is not None:
        items = known_items(held.own, config.known_items, config.known_item_queries)
    searches = {name: held.judged(one, sources[name]) for name, one in labels.benchmarks.items()}
    found = {name: held.retrieval(one) for name, one in searches.items()}
    of_items = None if items is None else held.known(items)
    if of_items is not None and not of_items.held_out:
        searches[_KNOWN_ITEMS] = of_items
    return Evaluation(
        sts={name: held.correlation(one) for name, one in labels.pairs.items()},
        retrieval=found,
        known_items=None if of_items is None else held.retrieval(of_items),
        storage=held.storage(searches) if config.storage else {},
    )


def read_labels(config: EvaluationConfig) -> Labels:
    """Reads the labels that are asked for.

    Raises:
        ConfigError: A package is missing that measures need.
        InputError: A file of labels cannot be used.
    """
    if config.retrieval or config.known_items:
        check_measures()
    return Labels(
        pairs={name: read_pairs(path, config.sts_columns) for name, path in _named(config.sts)},
        benchmarks={
            name: read_benchmark(path, config.split) for name, path in _named(config.retrieval)
        },
    )


def check_evaluation(manifest: Manifest, config: EvaluationConfig) -> None:
    """Checks that a version can be held against what is asked.

    Raises:
        ConfigError: Nothing is asked, or the version has other than one vector per row, no rows,
            or a metric that is not known.
    """
    check_kind("config", config, EvaluationConfig)
    check_one_vector_per_row(manifest, "an evaluation")
    if not config.asks:
        raise ConfigError(
            "nothing to evaluate; give --sts FILE, --retrieval DIR, --known-items or --storage"
        )
    if not manifest.rows:
        raise ConfigError(f"{manifest.version}: has no rows to evaluate")
    if config.storage and manifest.description.get("vector_dtype") in QUANTIZED:
        raise ConfigError(
            f"storage: {manifest.version} stores {manifest.description['vector_dtype']}, and not "
            "the floats that others are compared with; evaluate a version of float32"
        )
    if manifest.description["metric"] not in METRICS:
        raise ConfigError(
            f"metric {manifest.description['metric']!r} cannot be searched; expected "
            f"{' or '.join(METRICS)}"
        )


def _named(paths: Iterable[str]) -> list[tuple[str, Path]]:
    """Names files by what they are called, of several with one name the later ones by number."""
    named: dict[str, Path] = {}
    for path in map(Path, paths):
        stem = path.stem if path.suffix else path.resolve().name
        base = name = _NOT_IN_NAMES.sub("-", stem).strip("-") or "labels"
        number = 1
        while name in named:
            number += 1
            name = f"{base}-{number}"
        named[name] = path
    return list(named.items())


@dataclass(frozen=True)
class _Search:
    """Queries, and the documents among which they look.

    Attributes:
        documents: The documents.
        texts: The texts of the queries by their ids.
        vectors: Their vectors, in the same order, shape (queries, dimension).
        gains: Their judgments.
        unanswered: Judged queries that were left out.
        about: What kind of retrieval it is, where that must be said.
        held_out: Of each query the number of the document that it was taken out of, and the vector
            of what is left of that; None where nothing was.
    """

    documents: Documents
    texts: Mapping[str, str]
    vectors: NDArray[np.float32]
    gains: Gains
    unanswered: int = 0
    about: str | None = None
    held_out: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class _Held:
    """A version to be held against labels, its models loaded when they are first needed."""

    version: Version
    manifest: Manifest
    config: EvaluationConfig
    model: str | os.PathLike[str] | None
    show_texts: bool

    @lazy_property
    def _queries(self) -> TextEmbedder:
        return TextEmbedder(query_model(self.version, self.manifest, self.model))

    @lazy_property
    def _documents(self) -> TextEmbedder:
        return TextEmbedder(document_model(self.version, self.manifest, self.model))

    @lazy_property
    def own(self) -> VersionDocuments:
        return VersionDocuments(self.version, self.manifest)

    def correlation(self, pairs: ScoredPairs) -> Correlation:
        """Correlates cosines of pairs, both texts encoded as documents, with their scores."""
        embedded = self._documents.embed(pairs.texts)
        count = len(pairs.scores)
        if embedded.rejects:
            place, reject = min(embedded.rejects.items())
            raise InputError(
                f"{pairs.places[place % count]}: text {1 + place // count} has no vector: "
                f"{reject.detail}"
            )
        first, second = directions(embedded.vectors[:count]), directions(embedded.vectors[count:])
        return correlate((first * second).sum(axis=1), pairs.scores)

    def documents_of(self, benchmark: Benchmark) -> Documents:
        """Chooses the documents among which the queries of a benchmark look."""
        corpus, wanted = benchmark.corpus, self.config.documents
        if corpus is None and wanted == "corpus":
            raise InputError(f"{benchmark.folder}: has no corpus.jsonl; take the version's")
        documents: Documents = self.own
        if corpus is not None and wanted != "version":
            names = {one.id for one in read_documents(corpus)}
            if wanted == "corpus" or names != self.own.known:
                benchmark.check_documents(names, str(corpus))
                return EncodedDocuments(corpus, self._documents, self.config.document_template)
        benchmark.check_documents(documents.known, f"version {self.version.name}")
        return documents

    def judged(self, benchmark: Benchmark, documents: Documents) -> _Search:
        """Encodes the queries of a benchmark."""
        embedded = self._queries.embed(list(benchmark.queries.values()))
        if embedded.rejects:
            place, reject = min(embedded.rejects.items())
            raise InputError(
                f"{benchmark.folder}: query {list(benchmark.queries)[place]!r} has no vector: "
                f"{reject.detail}"
            )
        return _Search(
            documents, benchmark.queries, embedded.vectors, benchmark.gains, benchmark.unanswered
        )

    def known(self, found: KnownItems) -> _Search:
        """Encodes known items, but for those of which a text has no vector."""
        vectors = self._queries.embed([one.query for one in found.items]).vectors
        usable = np.isfinite(vectors.sum(axis=1))
        rests = vectors_of_rests(found.items, self._documents) if found.held_out else None
        if rests is not None:
            usable &= np.isfinite(rests.sum(axis=1))
        kept = np.flatnonzero(usable)
        if not len(kept):
            raise ConfigError(f"known_items: none of {len(found.items):,} queries has a vector")
        items = [found.items[place] for place in kept]
        places = {name: number for number, name in enumerate(self.own.names)}
        numbers = np.array([places[one.document] for one in items], dtype=np.int64)
        return _Search(
            self.own,
            {one.document: one.query for one in items},
            vectors[kept],
            {one.document: {one.document: 1} for one in items},
            about=found.about,
            held_out=None if rests is None else (numbers, rests[kept]),
        )

    def retrieval(self, asked: _Search) -> Retrieval:
        """Measures how well queries find what answers them."""
        metric = self.manifest.description["metric"]
        if asked.held_out is None:
            ranking = rank(asked.documents, asked.vectors, metric)
        else:
            numbers, rests = asked.held_out
            ranking = rank(asked.documents, asked.vectors, metric, excluded=numbers)
            for query, vector in enumerate(asked.vectors):
                score = scores_of(vector[None], rests[query][None], metric)
                ranking.add(query, numbers[query][None], score)
        return measure_retrieval(
            asked.documents,
            asked.texts,
            ranking,
            asked.gains,
            asked.unanswered,
            self.show_texts,
            asked.about,
        )

    def storage(self, searches: Mapping[str, _Search]) -> dict[str, dict[str, StorageCost]]:
        """Compares ways to store vectors by what queries find; by rows where there are none."""
        metric, normalized = (self.manifest.description[name] for name in ("metric", "normalized"))
        if not searches:
            if len(self.own.names) == 1:
                raise ConfigError(
                    f"storage: {self.version.name} has one document, which has none to find; give "
                    "--retrieval DIR"
                )
            queries, numbers = sampled_queries(self.own)
            return {"rows": storage_costs(self.own, queries, {}, metric, normalized, numbers)}
        return {
            name: storage_costs(one.documents, one.vectors, one.gains, metric, normalized)
            for name, one in searches.items()
        }
