"""What codes cost that are stored in the place of vectors."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class StorageLoss:
    """How far vectors are from those that their codes stand for.

    Attributes:
        rows: Vectors that codes were made of.
        components: Components of all of them.
        clipped: Those of them outside of the calibrated ranges, where codes end.
        directed: Vectors whose length is not 0, which have a cosine.
        mean_cosine: Mean of the cosines between vectors and what is read back; 0 of none.
        m2: Sum of squared distances from that mean.
        least_cosine: The least of them; 0 of none.
        most_cosine: The greatest of them; 0 of none.
    """

    rows: int = 0
    components: int = 0
    clipped: int = 0
    directed: int = 0
    mean_cosine: float = 0.0
    m2: float = 0.0
    least_cosine: float = 0.0
    most_cosine: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)

    @classmethod
    def of_dict(cls, values: dict[str, Any]) -> Self:
        """Reads back what ``to_dict`` gave."""
        return cls(**{one.name: values[one.name] for one in fields(cls)})
