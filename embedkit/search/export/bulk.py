"""What writes files for another system to load."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from embedkit.search.export.record import Measured
from embedkit.search.export.source import Source


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        settings: What the files are, as JSON values.
        measured: How well they answer; None where only the other system can tell.
    """

    settings: dict[str, Any]
    measured: Measured | None = None


class BulkWriter(Protocol):
    """Writes the rows of a version in the form that another system loads.

    Attributes:
        metrics: The metrics that the system knows.
    """

    metrics: Sequence[str]

    @abstractmethod
    def write(self, source: Source, folder: Path, recall: float) -> Written:
        """Writes all rows into a folder.

        Args:
            source: The version.
            folder: An empty folder.
            recall: The recall@10 for which the effort of a search is chosen, where there is one.

        Raises:
            ConfigError: The system cannot hold these rows.
            IntegrityError: A part is gone or damaged.
        """
