"""Where the rows of the sample are on a plane that has alike ones near each other."""

from dataclasses import dataclass

from embedkit.reports.facts import Facts
from embedkit.reports.map.placed import Method
from embedkit.reports.map.tsne import SEED
from embedkit.reports.section import Nothing, Section


@dataclass(frozen=True)
class Map:
    """A map of the sample.

    Attributes:
        measured: Whether it was drawn; what else there is to say is None where not.
        why: Why it was not.
        method: How rows were placed: ``pca``, by the first two principal components, or ``t-sne``.
        rows: How many rows it has: those of the sample with a direction.
        seed: What random numbers began with.
        start: The version whose map it began with; None where it began by itself.
        moved: How far rows that are on both maps moved since that, on average, as a share of the
            root mean square distance of rows from the middle.
        explained: Shares of the variance that the first two principal components have.
        file: Where the places are, relative to the version.
    """

    measured: bool
    why: str | None = None
    method: Method | None = None
    rows: int | None = None
    seed: int | None = None
    start: str | None = None
    moved: float | None = None
    explained: list[float] | None = None
    file: str | None = None


@dataclass(frozen=True)
class MapFigures:
    """The section's entry of the report."""

    map: Map


def _figures(statistic: Nothing, facts: Facts) -> MapFigures:
    drawn = facts.map
    if drawn is None or isinstance(drawn, str):
        return MapFigures(Map(False, drawn))
    origin = drawn.origin
    return MapFigures(
        Map(
            measured=True,
            method=origin.method,
            rows=drawn.rows,
            seed=SEED,
            start=origin.start,
            moved=origin.moved,
            explained=list(origin.explained),
            file="report/map.parquet",
        )
    )


SECTION = Section(__file__, Nothing, _figures, applies=lambda facts: facts.map is not None)
