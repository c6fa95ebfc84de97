"""What it costs that codes are stored in the place of vectors."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from embedkit.formats.storage_loss import StorageLoss
from embedkit.quantization import CALIBRATED, QUANTIZED, StoredAs
from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.moments import Moments
from embedkit.reports.phrasing import percent
from embedkit.reports.section import Finding, Section, share

_MUCH_CLIPPED = 0.02
"""Of a sample of 1,024 vectors, some 0.002 of other components lie outside the ranges."""


@dataclass(frozen=True)
class Losses:
    """How far codes are from the vectors that they were made of.

    Attributes:
        rows: Vectors that codes were made of, those of earlier versions not counted.
        components: Their components.
        clipped: Those of them outside of the calibrated ranges.
        cosines: Cosines between vectors and what their codes stand for.
    """

    rows: int = 0
    components: int = 0
    clipped: int = 0
    cosines: Moments = field(default_factory=Moments)

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Measures one block."""
        loss = measured.block.loss or StorageLoss()
        cosines = Moments()
        if loss.directed:
            cosines = Moments.around(
                loss.directed, loss.mean_cosine, loss.m2, loss.least_cosine, loss.most_cosine
            )
        return cls(loss.rows, loss.components, loss.clipped, cosines)

    def __add__(self, other: Self) -> Self:
        """Returns the statistic of both."""
        return type(self)(
            self.rows + other.rows,
            self.components + other.components,
            self.clipped + other.clipped,
            self.cosines + other.cosines,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what a person wants to know of it, by name, see ``Quantization``."""
        return {
            "rows_measured": self.rows,
            "clipped_share": share(self.clipped, self.components),
            "mean_cosine": self.cosines.mean if self.cosines.count else None,
            "least_cosine": self.cosines.low,
        }


@dataclass(frozen=True)
class Quantization:
    """How vectors are stored, and what that costs.

    Attributes:
        dtype: ``int8``, ``uint8`` or ``binary``.
        bytes_per_vector: Bytes of a vector's codes.
        float_bytes_per_vector: Bytes that it would take as float32.
        calibration_rows: Vectors that the ranges are of; None where there are no ranges.
        rows_measured: Rows whose codes were compared with their vectors; of those that were taken
            over from an earlier version, it has the figures.
        clipped_share: Share of their components outside of the ranges; 0 where there are none.
        mean_cosine: Mean cosine between vectors and what is read back; None where none is known.
        least_cosine: The least of them.
    """

    dtype: str
    bytes_per_vector: int
    float_bytes_per_vector: int
    calibration_rows: int | None
    rows_measured: int
    clipped_share: float
    mean_cosine: float | None
    least_cosine: float | None


@dataclass(frozen=True)
class QuantizationFigures:
    """The section's entries of the report."""

    quantization: Quantization


def _figures(statistic: Losses, facts: Facts) -> QuantizationFigures:
    dtype, dimension = facts.dataset["vector_dtype"], facts.dataset["dimension"]
    calibration = facts.dataset.get("calibration") or {}
    return QuantizationFigures(
        Quantization(
            dtype=dtype,
            bytes_per_vector=StoredAs(dtype, dimension).width,
            float_bytes_per_vector=4 * dimension,
            calibration_rows=calibration.get("rows"),
            **statistic.to_dict(),
        )
    )


def _findings(figures: QuantizationFigures, facts: Facts) -> Iterator[Finding]:
    found = figures.quantization
    if found.dtype in CALIBRATED and found.clipped_share > _MUCH_CLIPPED:
        yield Finding(
            level="warning",
            text=f"{percent(found.clipped_share)} of the components lie outside of the ranges that "
            "codes were calibrated with, and are stored as their ends: the corpus is not what it "
            "was then. A run with --reuse off calibrates anew, and encodes all rows.",
        )


def _applies(facts: Facts) -> bool:
    return facts.dataset.get("vector_dtype") in QUANTIZED


SECTION = Section(__file__, Losses, _figures, _findings, columns=("embedding",), applies=_applies)
