"""What made the vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from embedkit.reports.facts import Facts
from embedkit.reports.section import Finding, Nothing, Section


@dataclass(frozen=True)
class Inputs:
    """The input files.

    Attributes:
        files: How many there are.
        bytes: Their size as stored.
    """

    files: int
    bytes: int


@dataclass(frozen=True)
class DatasetFigures:
    """The section's entries of the report.

    Attributes:
        dataset: What the manifest says of the vectors: version, model, revision, weights_hash,
            fingerprint, dimension, pooling, normalized, prompt, max_tokens, backend, precision,
            device, libraries and whatever else it was given.
        inputs: The input files.
    """

    dataset: dict[str, Any]
    inputs: Inputs


def _figures(statistic: Nothing, facts: Facts) -> DatasetFigures:
    return DatasetFigures(dict(facts.dataset), Inputs(facts.account.files, facts.account.bytes))


def _findings(figures: DatasetFigures, facts: Facts) -> Iterator[Finding]:
    if figures.dataset.get("ignored_code"):
        yield Finding(
            level="warning",
            text="The model's directory names classes of its own, which --ignore-auto-map replaced "
            f"by the library's ({figures.dataset['ignored_code']}): the vectors may be others than "
            "the authors'. Compare some of them.",
        )
    if figures.dataset.get("tokenizer_mismatch"):
        yield Finding(
            level="warning",
            text=f"The tokenizer {figures.dataset.get('tokenizer')} does not belong to the model, "
            f"which --allow-tokenizer-mismatch allowed ({figures.dataset['tokenizer_mismatch']}): "
            "the vectors may mean little. Compare some of them with those of the model's own.",
        )


SECTION = Section(__file__, Nothing, _figures, _findings)
