"""How rows stand to those of an earlier version, as commit records say it."""

from dataclasses import dataclass, field
from typing import Any

from embedkit.formats.json_record import Count, JsonRecord


@dataclass(frozen=True)
class Reused(JsonRecord):
    """How the rows of a block stand to those of an earlier version.

    Attributes:
        version: Name of the earlier version.
        rows: Rows that have the very vectors which it has.
        tokens: Their tokens as the model sees them, which were not encoded again.
        added: Rows whose id it does not have, as far as it was looked for.
        changed: Rows whose id it has with another text.
        sources: ``rows``, ``added`` and ``changed`` by input file; empty where these are too many
            to be named.
        numerics: Of what numerics those vectors are, each once.
    """

    version: str
    rows: Count = 0
    tokens: Count = 0
    added: Count = 0
    changed: Count = 0
    sources: dict[str, tuple[Count, Count, Count]] = field(default_factory=dict)
    numerics: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ReusedRows(JsonRecord):
    """How the rows of a version stand to those of earlier versions.

    Attributes:
        versions: Rows that have the very vectors of each earlier version, by its name.
        compared: Rows that were compared with an earlier version.
        rows: Rows that have the very vectors which an earlier version has.
        tokens: Their tokens as the model sees them, which were not encoded again.
        added: Rows whose id the earlier version does not have, as far as it was looked for.
        changed: Rows whose id it has with another text.
        removed: Its rows whose id the version does not have; None where that is not known.
        sources: By input file the rows that were taken over and encoded, and those ``added``,
            ``changed`` and ``removed``; of many files those where most is not as it was.
    """

    versions: dict[str, Count] = field(default_factory=dict)
    compared: Count = 0
    rows: Count = 0
    tokens: Count = 0
    added: Count = 0
    changed: Count = 0
    removed: Count | None = None
    sources: dict[str, tuple[Count, Count, Count, Count, Count | None]] = field(
        default_factory=dict
    )
