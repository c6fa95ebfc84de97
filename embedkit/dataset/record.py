"""Records of the blocks and splits of a version, whose errors name them and the remedy."""

from dataclasses import dataclass
from typing import Self

from embedkit.errors import IntegrityError
from embedkit.formats.json_record import JsonRecord

REDO = "remove it and run the version's job again, which encodes its block anew"

_MOST_ROWS_OF_A_BYTE = 64
"""Far more than any part has, of whose rows each has an id of its own."""


def check_rows(rows: int, size: int) -> None:
    """Checks that a part can have so many rows, for which its readers make room beforehand.

    Raises:
        ValueError: It cannot, whatever is in it.
    """
    if rows > _MOST_ROWS_OF_A_BYTE * size:
        raise ValueError(f"{rows} rows in a part of {size} bytes")


@dataclass(frozen=True)
class Record(JsonRecord):
    """A record of a block or split."""

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Reads a record.

        Args:
            data: What ``to_json`` wrote, of this release or another.
            name: What an error calls it.

        Raises:
            IntegrityError: It is not such a record, or not as it was written.
        """
        try:
            return cls.parse(data)
        except ValueError as error:
            raise IntegrityError(f"{name}: {error}; {REDO}") from error
