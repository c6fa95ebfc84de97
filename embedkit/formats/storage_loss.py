"""What codes cost that are stored in the place of vectors."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

COSINE_BITS: Final = 40


@dataclass(frozen=True)
class StorageLoss:
    """How far vectors are from those that their codes stand for.

    A monoid: ``StorageLoss()`` and ``+``, exact, in any order and any groups.

    Attributes:
        rows: Vectors that codes were made of.
        components: Components of all of them.
        clipped: Those of them outside of the calibrated ranges, where codes end.
        directed: Vectors whose length is not 0, which have a cosine.
        cosine_sum: Sum of the cosines between vectors and what is read back, each rounded to
            multiples of 2**-40, in units of these.
        least_cosine: The least of them; None of none.
    """

    rows: int = 0
    components: int = 0
    clipped: int = 0
    directed: int = 0
    cosine_sum: int = 0
    least_cosine: float | None = None

    def __add__(self, other: Self) -> Self:
        """Returns the loss of both."""
        known = [one.least_cosine for one in (self, other) if one.least_cosine is not None]
        return type(self)(
            self.rows + other.rows,
            self.components + other.components,
            self.clipped + other.clipped,
            self.directed + other.directed,
            self.cosine_sum + other.cosine_sum,
            min(known, default=None),
        )

    @property
    def clipped_share(self) -> float:
        """Share of the components outside of the ranges; 0 of none."""
        return self.clipped / self.components if self.components else 0.0

    @property
    def mean_cosine(self) -> float | None:
        """Mean of the cosines; None of none."""
        return self.cosine_sum / (self.directed << COSINE_BITS) if self.directed else None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> Self:
        """Reads back what ``to_dict`` gave."""
        return cls(**{one.name: values[one.name] for one in fields(cls)})
