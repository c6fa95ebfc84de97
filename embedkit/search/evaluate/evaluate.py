"""A version held against everything that it is asked to be."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.config import EvaluationConfig
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, InputError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.lazy import lazy_property
from embedkit.search.evaluate.benchmark import Benchmark, read_benchmark, read_documents
from embedkit.search.evaluate.correlation import Correlation, correlate
from embedkit.search.evaluate.documents import Documents, EncodedDocuments, VersionDocuments
from embedkit.search.evaluate.measures import check_measures
from embedkit.search.evaluate.pairs import ScoredPairs, read_pairs
from embedkit.search.evaluate.retrieval import Retrieval, measure_retrieval
from embedkit.search.exact import METRICS, check_one_vector_per_row
from embedkit.search.query import document_model, query_model
from embedkit.search.scores import directions

_NOT_IN_NAMES = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Evaluation:
    """What a version is worth, as far as was asked.

    Attributes:
        sts: Correlations with people's scores, by the name of the file.
        retrieval: Measures of retrieval, by the name of the folder.
    """

    sts: Mapping[str, Correlation] = field(default_factory=dict)
    retrieval: Mapping[str, Retrieval] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns what was asked, by name."""
        found = {
            "sts": {name: one.to_dict() for name, one in self.sts.items()},
            "retrieval": {name: one.to_dict() for name, one in self.retrieval.items()},
        }
        return {name: one for name, one in found.items() if one}


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
) -> Evaluation:
    """Holds a version whose parts are all committed against labels, see ``evaluate_version``.

    Args:
        version: The version.
        manifest: Its manifest, which need not stand yet.
        config: What it is held against.
        model: The model's directory, where it is no longer where the run found it.
        show_texts: Whether texts of queries and documents are shown.
    """
    check_evaluation(manifest, config)
    # What can be wrong with small files is said before the model is loaded.
    pairs = {name: read_pairs(path, config.sts_columns) for name, path in _named(config.sts)}
    benchmarks = {
        name: read_benchmark(path, config.split) for name, path in _named(config.retrieval)
    }
    held = _Held(version, manifest, config, model, show_texts)
    sources = {name: held.documents_of(one) for name, one in benchmarks.items()}
    return Evaluation(
        sts={name: held.correlation(one) for name, one in pairs.items()},
        retrieval={name: held.retrieval(one, sources[name]) for name, one in benchmarks.items()},
    )


def check_evaluation(manifest: Manifest, config: EvaluationConfig) -> None:
    """Checks that a version can be held against what is asked.

    Raises:
        ConfigError: Nothing is asked, or the version has other than one vector per row, no rows,
            or a metric that is not known; or a package is missing.
    """
    check_one_vector_per_row(manifest, "an evaluation")
    if not (config.sts or config.retrieval):
        raise ConfigError("nothing to evaluate; give --sts FILE or --retrieval DIR")
    if not manifest.rows:
        raise ConfigError(f"{manifest.version}: has no rows to evaluate")
    if manifest.description["metric"] not in METRICS:
        raise ConfigError(
            f"metric {manifest.description['metric']!r} cannot be searched; expected "
            f"{' or '.join(METRICS)}"
        )
    if config.retrieval:
        check_measures()


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

    def retrieval(self, benchmark: Benchmark, documents: Documents) -> Retrieval:
        """Measures how well the queries of a benchmark find what answers them."""
        embedded = self._queries.embed(list(benchmark.queries.values()))
        if embedded.rejects:
            place, reject = min(embedded.rejects.items())
            raise InputError(
                f"{benchmark.folder}: query {list(benchmark.queries)[place]!r} has no vector: "
                f"{reject.detail}"
            )
        return measure_retrieval(
            documents,
            benchmark.queries,
            embedded.vectors,
            benchmark.gains,
            self.manifest.description["metric"],
            benchmark.unanswered,
            self.show_texts,
        )
