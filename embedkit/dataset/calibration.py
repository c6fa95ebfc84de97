"""The calibration of a version: made once, before its first code, and never changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self

import numpy as np
from pydantic import Field

from embedkit.dataset.committed import committed
from embedkit.dataset.finalize import Totals
from embedkit.dataset.manifest import Part
from embedkit.dataset.rows import schema_of
from embedkit.dataset.stores import create, read_if_there
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.formats.json_record import Count, LongRecord
from embedkit.lazy import lazy_property
from embedkit.quantization import Calibration, Ranges, StoredAs
from embedkit.vectors import stored_as

METHOD: Final = (
    "least and greatest value of each component over the vectors of the texts with the smallest "
    "hashes, and a fifth of what lies between at each end"
)
LEAST_ROWS: Final = 100
"""Vectors whose ranges are good for those of a later version, of which 2 % lie outside then."""

_ANEW = "restore it, or remove it and run the version's job again, which writes it anew"
_Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class CalibrationRecord(LongRecord):
    """What stands in ``_meta/calibration.json``.

    Attributes:
        dimension: Components of a vector.
        rows: Vectors that the ranges are of.
        low: Smallest value of each component, which is that of code 0 (int8: -128).
        high: Largest value of each component, which is that of code 255 (int8: 127).
        method: How they were chosen, for a person.
    """

    dimension: Count
    rows: Count
    low: tuple[_Finite, ...]
    high: tuple[_Finite, ...]
    method: str = METHOD

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        """Takes a calibration; its numbers are written so that float32 reads them bit for bit."""
        ranges = calibration.ranges
        low, high = (tuple(map(float, values)) for values in (ranges.low, ranges.high))
        return cls(len(low), calibration.rows, low, high)

    @property
    def calibration(self) -> Calibration:
        """The calibration.

        Raises:
            ValueError: The ranges are not of ``dimension`` components.
        """
        if not self.dimension == len(self.low) == len(self.high):
            raise ValueError(f"ranges of other than {self.dimension} components")
        low, high = (np.array(values, np.float32) for values in (self.low, self.high))
        return Calibration(Ranges(low, high), self.rows)


class StandingCalibration:
    """The calibration of a version, read where it is first asked for; picklable.

    Args:
        version: The version.
    """

    def __init__(self, version: Version) -> None:
        self.version = version

    def __reduce__(self) -> tuple[type[Self], tuple[Version]]:
        """Leaves behind what was read."""
        return type(self), (self.version,)

    def __call__(self) -> Calibration:
        """Returns the calibration.

        Raises:
            IntegrityError: It is damaged or not there.
            StoreError: The store failed.
        """
        return self._found

    @lazy_property
    def _found(self) -> Calibration:
        found = read_calibration(self.version)
        if found is None:
            name = self.version.url_of(self.version.calibration_key)
            raise IntegrityError(f"{name}: gone; {_ANEW}")
        return found


def create_calibration(version: Version, calibration: Calibration) -> None:
    """Writes the calibration of a version unless it has one, which then stays.

    Raises:
        StoreError: The store failed; the same call again is safe.
    """
    data = CalibrationRecord.of(calibration).to_json()
    create(version.store, version.calibration_key, data)


def read_calibration(version: Version) -> Calibration | None:
    """Reads the calibration of a version; None where there is none.

    Raises:
        IntegrityError: It is damaged.
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.calibration_key)
    if data is None:
        return None
    try:
        return CalibrationRecord.parse(data).calibration
    except ValueError as error:
        name = version.url_of(version.calibration_key)
        raise IntegrityError(
            f"{name}: not the calibration that was written ({error}); {_ANEW}"
        ) from error


def restore_calibration(version: Version) -> bool:
    """Sees to it that a version has its calibration where something is committed by it.

    Every part has it in the metadata of its column, so a file that is gone is made anew.

    Returns:
        Whether it has one; else it is yet to be made.

    Raises:
        IntegrityError: It is damaged, or a part is.
        StoreError: The store failed.
    """
    if read_calibration(version) is not None:
        return True
    calibration = _calibration_of_parts(version)
    if calibration is None:
        return False
    create_calibration(version, calibration)
    return True


def check_calibration(version: Version, parts: Sequence[Part]) -> None:
    """Makes sure that codes of a part are made by the calibration of its version.

    Args:
        version: A version that stores codes of 8 bits.
        parts: Parts of it; the first one is looked at.

    Raises:
        IntegrityError: They are made by another one, or the part or the calibration is damaged.
        StoreError: The store failed.
    """
    standing = read_calibration(version)
    theirs = _calibration_in(version, parts)
    if theirs is not None and standing is not None and not _equal(standing, theirs):
        raise IntegrityError(
            f"{version.url_of(version.calibration_key)}: not what the codes of {parts[0].path} are "
            "made by; restore it, or remove it and run the version's job again, which takes it "
            "from that part"
        )


def _calibration_of_parts(version: Version) -> Calibration | None:
    return _calibration_in(version, Totals.of(tuple(committed(version).values())).parts)


def _calibration_in(version: Version, parts: Sequence[Part]) -> Calibration | None:
    """Returns the calibration that the first part has in the metadata of its column, if any."""
    return stored_as(schema_of(version, parts[:1])).calibration if parts else None


def _equal(one: Calibration, other: Calibration) -> bool:
    first, second = (StoredAs("int8", len(each.ranges.low), each) for each in (one, other))
    return first.is_as(second)


def take_calibration(version: Version, earlier: Version) -> str | None:
    """Takes the calibration of an earlier version over, unless the version has one.

    One of fewer than ``LEAST_ROWS`` vectors is of a corpus so small that it is encoded once more,
    and more texts would be far outside of such ranges.

    Args:
        version: The version.
        earlier: One with the same recipe and type of stored vectors.

    Returns:
        Why codes of the earlier version may not stand in this one; None where both have the same
        calibration now.

    Raises:
        IntegrityError: One of them is damaged.
        StoreError: The store failed.
    """
    theirs = read_calibration(earlier) or _calibration_of_parts(earlier)
    if theirs is None:
        return "what its codes are made by is gone"
    if theirs.rows < LEAST_ROWS:
        return f"its codes are calibrated with {theirs.rows} of at least {LEAST_ROWS} vectors"
    create_calibration(version, theirs)
    if not _equal(StandingCalibration(version)(), theirs):
        return "its codes are made by another calibration than this version was begun with"
    return None


def described_calibration(version: Version) -> dict[str, object]:
    """Returns what the manifest says of the calibration of a version.

    Raises:
        IntegrityError: It is damaged or not there.
        StoreError: The store failed.
    """
    calibration = StandingCalibration(version)()
    return {
        "rows": calibration.rows,
        "method": METHOD,
        "file": version.calibration_key.removeprefix(version.key("")),
        "sha256": sha256(version.store.read(version.calibration_key)),
    }
