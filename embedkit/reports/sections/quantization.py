"""What it costs that codes are stored in the place of vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from embedkit.formats.storage_loss import StorageLoss
from embedkit.quantization import CALIBRATED, QUANTIZED, StoredAs
from embedkit.reports.facts import Facts
from embedkit.reports.measured import Measured
from embedkit.reports.phrasing import percent
from embedkit.reports.section import Finding, Section

_MUCH_CLIPPED = 0.005
"""Of components with tails like those of Student's t of 5 degrees, 0.0003 lie outside."""


@dataclass(frozen=True)
class Losses(StorageLoss):
    """How far codes are from the vectors that they were made of, earlier versions' left out."""

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Takes what encoding measured of one block."""
        loss = measured.block.loss
        return cls() if loss is None else cls(**loss.to_dict())

    def figures(self) -> dict[str, Any]:
        """Returns what a person wants to know of it, by name, see ``Quantization``."""
        return {
            "rows_measured": self.rows,
            "clipped_share": self.clipped_share,
            "mean_cosine": self.mean_cosine,
            "least_cosine": self.least_cosine,
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
            **statistic.figures(),
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
