"""What layers of int8 are given in a version: measured once, before its first vector."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from embedkit.dataset.stores import create, read_if_there
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import canonical_json, sha256
from embedkit.formats.json_record import Count, LongRecord
from embedkit.hashes.digests import digest

METHOD: Final = (
    "least and greatest value that each layer is given in float32, over texts with the smallest "
    "hashes; cosines of int8 and float32, over others of them"
)
LEAST_ROWS: Final = 100
"""Rows whose ranges are good for a later version."""

_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class RangesRecord(LongRecord):
    """What stands in ``_meta/ranges.json``.

    Attributes:
        ranges: Names of layers, each with the least and the greatest value that it is given when
            its components were halved, and how often each was, a hexadecimal digit for each.
        rows: Rows that were measured.
        compared: Vectors of other rows that were computed in int8 as well; of the same rows where
            there was but one.
        mean_cosine: Mean of the cosines between these and those of float32; None of none.
        least_cosine: The least of them.
        method: How this was measured, for a person.
    """

    ranges: tuple[tuple[str, _Finite, _Finite, str], ...]
    rows: Count
    compared: Count
    mean_cosine: _Finite | None
    least_cosine: _Finite | None
    method: str = METHOD

    @property
    def digest(self) -> str:
        """Hash of the ranges alone."""
        return digest(canonical_json(self.ranges).decode())


def create_ranges(version: Version, record: RangesRecord) -> None:
    """Writes the ranges of a version unless it has some, which then stay.

    Raises:
        StoreError: The store failed; the same call again is safe.
    """
    create(version.store, version.ranges_key, record.to_json())


def read_ranges(version: Version) -> RangesRecord | None:
    """Reads the ranges of a version; None where there are none.

    Raises:
        IntegrityError: They are damaged.
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.ranges_key)
    if data is None:
        return None
    try:
        return RangesRecord.parse(data)
    except ValueError as error:
        raise IntegrityError(
            f"{version.url_of(version.ranges_key)}: not the ranges that were written ({error}); "
            "restore it, or remove it and run the version's job again, which measures them anew"
        ) from error


def take_ranges(version: Version, earlier: Version) -> None:
    """Takes the ranges of an earlier version over, unless the version has some.

    Those of fewer than ``LEAST_ROWS`` rows are left, as more texts would be far outside of them.

    Args:
        version: The version.
        earlier: One with the same recipe; of another precision it has none.

    Raises:
        IntegrityError: Those of the earlier version are damaged.
        StoreError: The store failed.
    """
    theirs = read_ranges(earlier)
    if theirs is not None and theirs.rows >= LEAST_ROWS:
        create_ranges(version, theirs)


def described_ranges(version: Version) -> dict[str, object] | None:
    """Returns what the manifest says of the ranges of a version; None where there are none.

    Raises:
        IntegrityError: They are damaged.
        StoreError: The store failed.
    """
    found = read_ranges(version)
    if found is None:
        return None
    return {
        "rows": found.rows,
        "compared": found.compared,
        "mean_cosine": found.mean_cosine,
        "least_cosine": found.least_cosine,
        "method": found.method,
        "file": version.ranges_key.removeprefix(version.key("")),
        "sha256": sha256(version.store.read(version.ranges_key)),
    }
