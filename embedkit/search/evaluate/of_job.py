"""The evaluation that a job asks for of the version that it makes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from embedkit.config import EvaluationConfig, JobConfig, evaluation_fault
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, InputError
from embedkit.formats.canonical import canonical_json, sha256
from embedkit.search.evaluate.evaluate import Labels, evaluate, read_labels


@dataclass(frozen=True)
class JobEvaluation:
    """An evaluation whose labels were read before anything was embedded.

    Attributes:
        config: What is asked.
        labels: The labels.
        asked: Hash of both, by which a run tells that the same was measured before.
    """

    config: EvaluationConfig
    labels: Labels
    asked: str

    @classmethod
    def of(cls, job: JobConfig, config: EvaluationConfig) -> Self:
        """Reads the labels.

        Raises:
            ConfigError: The version of such a job cannot be held against what is asked, or a
                package is missing.
            InputError: A file of labels cannot be used.
        """
        if fault := evaluation_fault(job, config):
            raise ConfigError(fault)
        labels = read_labels(config)
        # Paths may change while the files do not.
        settings = config.model_dump(mode="json", exclude={"sts", "retrieval"})
        files = [(path.name, _sha256_of(path)) for path in _files(config, labels)]
        names = [[*labels.pairs], [*labels.benchmarks]]
        return cls(config, labels, sha256(canonical_json([settings, names, files])))

    def __call__(self, version: Version, manifest: Manifest, show_texts: bool) -> dict[str, Any]:
        """Holds a complete version against the labels, and returns the figures by name."""
        found = evaluate(version, manifest, self.config, show_texts=show_texts, labels=self.labels)
        return found.to_dict()


def _files(config: EvaluationConfig, labels: Labels) -> Iterator[Path]:
    yield from map(Path, config.sts)
    for benchmark in labels.benchmarks.values():
        yield from (benchmark.folder / "queries.jsonl", benchmark.judgments)
        if benchmark.corpus is not None and config.documents != "version":
            yield benchmark.corpus


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check it") from error
