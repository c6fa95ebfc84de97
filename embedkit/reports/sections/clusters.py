"""What the rows are about: clusters of a sample, named by the terms that tell them apart."""

from collections import Counter
from dataclasses import dataclass, field

from embedkit.reports.facts import Facts
from embedkit.reports.map.clusters import Clusters, commonest, may_be_parted, purity
from embedkit.reports.map.terms import class_terms
from embedkit.reports.sample import excerpt
from embedkit.reports.section import Nothing, Section, share
from embedkit.reports.vector_sample import SampledVectors


@dataclass(frozen=True)
class Cluster:
    """Rows that are alike.

    Attributes:
        rows: How many they are.
        share: Their share of the rows that were parted.
        terms: Terms that tell their texts from those of other clusters, the heaviest first.
        example: The beginning of the text nearest to their centre; None where none was read.
        source: The file that most of them are from.
        source_share: The share of them that is.
    """

    rows: int
    share: float
    terms: list[str]
    example: str | None
    source: str | None
    source_share: float


@dataclass(frozen=True)
class Parted:
    """A sample of the rows, parted into clusters.

    Attributes:
        measured: Whether it was parted.
        why: Why it was not.
        rows: Rows that were parted: those of the sample with a direction, one of each text.
        by: What found the clusters, ``faiss`` or ``scikit-learn``.
        named: Whether texts could be read to name them.
        sources: Files that the rows are from.
        largest_source: Share of the rows that are from the largest of these.
        purity: Share of the rows that are from the commonest source of their cluster: no less than
            ``largest_source``, and 1 where every cluster has one source.
        clusters: The clusters, the largest first.
    """

    measured: bool
    why: str | None = None
    rows: int = 0
    by: str | None = None
    named: bool = False
    sources: int = 0
    largest_source: float | None = None
    purity: float | None = None
    clusters: list[Cluster] = field(default_factory=list)


@dataclass(frozen=True)
class ClusterFigures:
    """The section's entry of the report."""

    clusters: Parted


def _figures(statistic: Nothing, facts: Facts) -> ClusterFigures:
    assert facts.examined is not None, "else the section is left out"
    found = facts.examined.clusters
    if isinstance(found, str):
        return ClusterFigures(Parted(False, found))
    return ClusterFigures(_parted(facts.examined.distinct, found))


def _parted(rows: SampledVectors, found: Clusters) -> Parted:
    sources = rows.sources.tolist()
    files = Counter(one for one in sources if one is not None)
    texts = rows.beginnings.tolist()
    count = int(found.numbers.max()) + 1
    terms = class_terms([text or "" for text in texts], found.numbers)
    clusters = []
    for number in range(count):
        of_cluster = found.rows_of(number)
        example = texts[of_cluster[0]]
        source, of_source = commonest(sources, of_cluster)
        clusters.append(
            Cluster(
                rows=len(of_cluster),
                share=share(len(of_cluster), len(rows)),
                terms=terms[number],
                example=None if example is None else excerpt(example),
                source=source,
                source_share=share(of_source, len(of_cluster)),
            )
        )
    return Parted(
        measured=True,
        rows=len(rows),
        by=found.by,
        named=any(text is not None for text in texts),
        sources=len(files),
        largest_source=share(max(files.values(), default=0), len(rows)),
        purity=purity(sources, found),
        clusters=clusters,
    )


def _applies(facts: Facts) -> bool:
    # What finds them takes a while to load.
    return facts.examined is not None and may_be_parted(facts.examined.sample.taken)


SECTION = Section(__file__, Nothing, _figures, applies=_applies)
