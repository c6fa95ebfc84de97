"""A version that another one is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedkit.reports.examined import ExaminedRows


@dataclass(frozen=True)
class RowChanges:
    """How many rows are not what they were, by their ids and texts.

    Attributes:
        added: Rows whose id the earlier version does not have.
        removed: Its rows whose id is gone.
        changed: Rows with another text.
        unchanged: The others.
        why: Why something of it is not known.
    """

    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    unchanged: int | None = None
    why: str | None = None


@dataclass(frozen=True, eq=False)
class Earlier:
    """A version that another one is compared with.

    Attributes:
        version: Its name.
        examined: What its rows say; None where they have not one vector each.
        recipe_changes: What differs in the recipes; None where one of both does not say what its
            recipe is.
        rows: How many rows are not what they were.
        stored: How vectors are stored, of this version and of the other one.
    """

    version: str
    examined: ExaminedRows | None
    recipe_changes: Sequence[str] | None
    rows: RowChanges = field(default_factory=RowChanges)
    stored: tuple[str, str] = ("float32", "float32")
