"""What is learnt of the rows of a version that are read again once all blocks are committed."""

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.lazy import lazy_property
from embedkit.reports.map.clusters import Clusters, clusters_of
from embedkit.reports.second_moments import SecondMoments
from embedkit.reports.values import SOURCE, Coded, coded
from embedkit.reports.vector_groups import VectorGroups
from embedkit.reports.vector_sample import SampledVectors, VectorSample
from embedkit.vectors import vectors_of

COLUMNS = ("id", "doc_id", "text_hash", "source", "embedding")
"""What is read of a row, and labels, and ``text`` where texts may be shown."""


@dataclass(frozen=True, eq=False)
class ExaminedRows:
    """What rows of some blocks say together.

    A monoid: ``ExaminedRows()`` and ``+``, exact, in any order and any groups. It is what would
    make sidecars large, so it is not in them.

    Attributes:
        blocks: Blocks that were read.
        of_blocks: Blocks with rows that there are; 0 until that is said.
        moments: Sums over their vectors.
        sample: Some of their rows with their vectors.
        groups: Sums over their vectors by input file and metadata value.
    """

    blocks: int = 0
    of_blocks: int = 0
    moments: SecondMoments = field(default_factory=SecondMoments)
    sample: VectorSample = field(default_factory=VectorSample)
    groups: VectorGroups = field(default_factory=VectorGroups)

    @classmethod
    def of(cls, rows: pa.Table, first: int, bound: int) -> Self:
        """Takes the rows of one block.

        Args:
            rows: ``COLUMNS`` of the rows of a part, perhaps ``text`` and labels as well.
            first: Rows of the version before them.
            bound: Keys from which on rows are not sampled, see ``key_bound``.
        """
        vectors = vectors_of(rows).matrix
        sample = VectorSample.of(rows, vectors, first, bound)
        groups = VectorGroups.of(rows, vectors)
        return cls(1, 0, SecondMoments.of(vectors), sample, groups)

    def __add__(self, other: Self) -> Self:
        """Returns what both say."""
        return type(self)(
            self.blocks + other.blocks,
            self.of_blocks + other.of_blocks,
            self.moments + other.moments,
            self.sample + other.sample,
            self.groups + other.groups,
        )

    @lazy_property
    def usable(self) -> SampledVectors:
        """Rows of the sample that have a direction."""
        drawn = self.sample.drawn()
        return drawn.take(drawn.usable)

    @property
    def sampled(self) -> int:
        """Rows of the sample, those without a direction among them."""
        return self.sample.size

    @lazy_property
    def values(self) -> dict[str, Coded]:
        """Which input file, and which value of metadata, each of these has, by column.

        A metadata column that was not read of all of them is left out.
        """
        rows = self.usable
        columns = {name: rows.columns.column(name).combine_chunks() for name in self.sample.labels}
        columns[SOURCE] = pa.array(rows.sources, pa.string())
        return {name: coded(column, most=len(rows)) for name, column in columns.items()}

    @lazy_property
    def distinct(self) -> SampledVectors:
        """Those of them that are the first of their text."""
        return self.usable.one_of_each(self.usable.texts)

    @lazy_property
    def clusters(self) -> Clusters | str:
        """The clusters of these, or why there are none."""
        return clusters_of(self.distinct.units)

    @property
    def covariance(self) -> NDArray[np.float64] | None:
        """Covariance of the directions, shape (d, d); None where vectors are too long for it."""
        return self.moments.covariance if len(self.moments.products) else None

    def among(self, of_blocks: int) -> Self:
        """Returns the same with how many blocks with rows there are."""
        return replace(self, of_blocks=of_blocks)
