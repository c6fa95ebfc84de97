"""``export.json``: what an index or bulk file is of, and how well it answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

from embedkit.errors import ConfigError, IntegrityError
from embedkit.formats.json_record import Count, JsonRecord
from embedkit.search.export.ids import ANEW

NAME: Final = "export.json"


@dataclass(frozen=True)
class Measured(JsonRecord):
    """How well an index answers, with rows of the version as queries, compared with all rows.

    Attributes:
        queries: How many rows were asked for their neighbours, chosen by the hash of their ids.
        k: How many neighbours each was asked for, itself not among them.
        recall: Share of the exact nearest that were found; a row that is as near as the last of
            them is one of them.
        wanted_recall: What the index's effort was chosen for, with other rows as queries.
        reached: Whether any effort gave that.
        milliseconds: Median time of one query in the index, asked alone.
        milliseconds_p95: Time that 19 of 20 queries take no longer than.
        exact_milliseconds: Time of one exact search, which reads the version.
    """

    queries: Count
    k: Count
    recall: float
    wanted_recall: float
    reached: bool
    milliseconds: float
    milliseconds_p95: float
    exact_milliseconds: float


@dataclass(frozen=True)
class Grown(JsonRecord):
    """How an index came of an earlier one.

    Attributes:
        version: Name of the version that the earlier index is of.
        taken: Entries whose vectors the version still has, and that were not added again.
        added: Vectors that were added.
        removed: Entries of vectors that the version does not have any more.
        rebuilt: Why all vectors were added to a new index; None where the earlier one grew.
    """

    version: str
    taken: Count
    added: Count
    removed: Count
    rebuilt: str | None = None


@dataclass(frozen=True)
class ExportRecord(JsonRecord):
    """What lies beside it.

    Attributes:
        target: The kind of output.
        version: Name of the version.
        fingerprint: Of the version's recipe and precision.
        contents: Tells its rows and their order from all others.
        rows: Rows of the version, each of them in the output.
        dimension: Components of a vector.
        metric: How vectors are compared.
        entries: Entries of an index, of rows that are gone as well; the rows where it is none.
        settings: What the target's library was told.
        measured: How well it answers; None where it is no index.
        grown: How it came of an earlier one; None where it did not.
        format: Format of the record.
    """

    target: str
    version: str
    fingerprint: str
    contents: str
    rows: Count
    dimension: Count
    metric: str
    entries: Count
    settings: dict[str, Any] = field(default_factory=dict)
    measured: Measured | None = None
    grown: Grown | None = None
    format: Literal["1"] = "1"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the record of an output.

        Raises:
            ConfigError: There is none.
            IntegrityError: It is damaged.
        """
        path = folder / NAME
        try:
            return cls.parse(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(
                f"{folder}: no {NAME} there, so it is nothing that embedkit export wrote; check "
                "the path"
            ) from error
        except ValueError as error:
            raise IntegrityError(f"{path}: {error}; {ANEW}") from error
