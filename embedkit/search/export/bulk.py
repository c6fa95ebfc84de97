"""What writes files for another system to load."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from embedkit.search.export.source import Source


class BulkWriter(Protocol):
    """Writes the rows of a version in the form that another system loads.

    Attributes:
        metrics: The metrics that the system knows.
    """

    metrics: Sequence[str]

    @abstractmethod
    def write(self, source: Source, folder: Path) -> dict[str, Any]:
        """Writes all rows into a folder.

        Returns:
            What the files are, as JSON values.

        Raises:
            ConfigError: The system cannot hold these rows.
            IntegrityError: A part is gone or damaged.
        """
