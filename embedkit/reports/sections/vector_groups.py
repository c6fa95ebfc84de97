"""Whose vectors are unlike the rest: by input file and by metadata value.

Of a file that another model encoded, or whose texts are no language, all is well but where its
vectors lie. Equal vectors and dead dimensions are told from the sample.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np

from embedkit.quantization import QUANTIZED
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.facts import Facts
from embedkit.reports.phrasing import count, noun, percent, significant
from embedkit.reports.section import Finding, Nothing, Section, share
from embedkit.reports.values import LEAST_SIZE, OTHERS, SHOWN, SOURCE, value_of
from embedkit.reports.vector_faults import VectorFaults, vector_faults
from embedkit.reports.vector_groups import VectorSums

_UNUSABLE = 0.05
_COLLAPSED = 0.5
_FAR = 0.15
_EQUAL = 0.02
_FEW_EQUAL = 4
"""Texts of a value with equal vectors that may be two pairs which the model cannot tell apart."""

_DEVIATIONS = 6
_TO_DEVIATION = 1.4826
"""By which the median of absolute deviations is multiplied for a standard deviation."""

_FIGURES = (
    "unusable_share", "mean_cosine", "equal_share", "dead_dimensions", "centroid_cosine"
)  # fmt: skip
"""Those in which a value may be unlike the rest, the worst first."""

_FEW_GROUPS = 5
_FINDINGS_OF_COLUMN = 3


@dataclass(frozen=True)
class VectorGroup:
    """The vectors of one value.

    Attributes:
        value: The value; None where it is null.
        rows: Rows that were read.
        unusable_share: Share of vectors that are not finite, or zero, or, where they are declared
            normalized and are not stored as codes, of another length than 1.
        mean_norm: Mean length of the others, those of another length among them; None of none.
        mean_cosine: Of all pairs of two of them: 1 where all are equal. None of fewer than two.
        centroid_cosine: Their mean cosine to the mean direction of all rows that were read.
        sampled: Different texts of its rows in the sample, those without a direction left out.
        equal_share: Share of those with exactly the vector of a sampled row with another text; None
            of fewer than 20, and where the column's values were not read.
        dead_dimensions: Dimensions that are the same in all of these, or all but so, and not in
            rows with other values; None likewise, and where vectors are stored as signs.
    """

    value: str | None
    rows: int
    unusable_share: float
    mean_norm: float | None
    mean_cosine: float | None
    centroid_cosine: float | None
    sampled: int
    equal_share: float | None
    dead_dimensions: int | None


@dataclass(frozen=True)
class UnlikeVectors(VectorGroup):
    """Vectors that are unlike the rest.

    Attributes:
        figure: The figure in which they are: ``unusable_share`` above that of the rest,
            ``mean_cosine`` far above it, ``equal_share`` above it, ``dead_dimensions`` of which
            there is one, or ``centroid_cosine`` far below that of other values.
        rest: That figure of all other rows; of ``centroid_cosine`` the median of all values.
    """

    figure: str
    rest: float


@dataclass(frozen=True)
class VectorColumn:
    """The values of one column.

    Attributes:
        column: Its name: ``source``, or a metadata column.
        distinct: How many values are told apart.
        largest: The ten values with most rows.
        worst: At most ten values of 20 rows or more that are unlike the rest.
        worst_unusable_share: The highest of a value with at least 20 rows; None of none.
        highest_mean_cosine: The same of the mean cosine.
        least_centroid_cosine: The lowest cosine to the mean direction of all rows.
        worst_equal_share: The highest of a value with at least 20 different texts in the sample.
        most_dead_dimensions: The same of the dead dimensions.
    """

    column: str
    distinct: int
    largest: list[VectorGroup]
    worst: list[UnlikeVectors]
    worst_unusable_share: float | None
    highest_mean_cosine: float | None
    least_centroid_cosine: float | None
    worst_equal_share: float | None
    most_dead_dimensions: int | None


@dataclass(frozen=True)
class VectorGroupFigures:
    """The section's entry of the report: columns with more than one value."""

    vector_groups: list[VectorColumn]


def _figures(statistic: Nothing, facts: Facts) -> VectorGroupFigures:
    assert facts.examined is not None, "else the section is left out"
    by_column = facts.examined.groups.by_column
    # Codes are read back as vectors of about that length.
    exact = facts.dataset.get("vector_dtype") not in QUANTIZED
    normalized = exact and bool(facts.dataset.get("normalized"))
    # Of signs, all are the same in the texts of one subject.
    dimensions = facts.dataset.get("vector_dtype") != "binary"
    columns = sorted(by_column, key=lambda name: (name != SOURCE, name))
    found = (
        _column(name, by_column[name], _faults(facts.examined, name, dimensions), normalized)
        for name in columns
    )
    return VectorGroupFigures([one for one in found if one.distinct > 1])


def _faults(examined: ExaminedRows, column: str, dimensions: bool) -> dict[str, VectorFaults]:
    values = examined.values.get(column)
    return {} if values is None else vector_faults(examined.usable, values, dimensions)


def _column(
    name: str,
    sums: Mapping[str, VectorSums],
    faults: Mapping[str, VectorFaults],
    normalized: bool,
) -> VectorColumn:
    whole = reduce(VectorSums.plus, sums.values())
    told = {key: one for key, one in sums.items() if key != OTHERS}
    found = {key: faults.get(key, VectorFaults()) for key in told}
    texts = reduce(VectorFaults.plus, faults.values(), VectorFaults())
    by_size = sorted(told, key=lambda key: (-told[key].rows, key))
    groups = {key: _group(key, told[key], whole, found[key], normalized) for key in by_size}
    large = {key: one for key, one in groups.items() if one.rows >= LEAST_SIZE}
    rests = {
        key: _group(key, whole.minus(told[key]), whole, texts.minus(found[key]), normalized)
        for key in large
    }
    cosines = _known([one.centroid_cosine for one in large.values()])
    unlike = (_unlike(one, rests[key], cosines) for key, one in large.items())
    worst = sorted(filter(None, unlike), key=_order)
    shares = [one.unusable_share for one in large.values()]
    within = _known([one.mean_cosine for one in large.values()])
    equal = _known([one.equal_share for one in large.values()])
    dead = (one.dead_dimensions for one in large.values())
    return VectorColumn(
        column=name,
        distinct=len(told),
        largest=[groups[key] for key in by_size[:SHOWN]],
        worst=worst[:SHOWN],
        worst_unusable_share=max(shares, default=None),
        highest_mean_cosine=max(within, default=None),
        least_centroid_cosine=min(cosines, default=None),
        worst_equal_share=max(equal, default=None),
        most_dead_dimensions=max((one for one in dead if one is not None), default=None),
    )


def _order(group: UnlikeVectors) -> tuple[int, float, str]:
    """Returns what groups are sorted by, the worst first."""
    excess = {"equal_share": group.equal_share, "dead_dimensions": group.dead_dimensions}
    return _FIGURES.index(group.figure), -(excess.get(group.figure) or 0.0), group.value or ""


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _group(
    key: str, sums: VectorSums, whole: VectorSums, faults: VectorFaults, normalized: bool
) -> VectorGroup:
    enough = faults.texts >= LEAST_SIZE
    unusable = sums.non_finite + sums.zero + (sums.off if normalized else 0)
    return VectorGroup(
        value=value_of(key),
        rows=sums.rows,
        unusable_share=share(unusable, sums.rows),
        mean_norm=sums.mean_length,
        mean_cosine=sums.mean_cosine,
        centroid_cosine=sums.cosine_to(whole),
        sampled=faults.texts,
        equal_share=share(faults.equal, faults.texts) if enough else None,
        dead_dimensions=faults.dead,
    )


def _unlike(group: VectorGroup, rest: VectorGroup, cosines: list[float]) -> UnlikeVectors | None:
    """Returns a group with the figure in which it is unlike the rest; None where in none."""
    if group.unusable_share - rest.unusable_share >= _UNUSABLE:
        return UnlikeVectors(**vars(group), figure="unusable_share", rest=rest.unusable_share)
    ours, theirs = group.mean_cosine, rest.mean_cosine
    if ours is not None and theirs is not None and ours - theirs >= _COLLAPSED:
        return UnlikeVectors(**vars(group), figure="mean_cosine", rest=theirs)
    ours, theirs = group.equal_share or 0.0, rest.equal_share or 0.0
    if ours - theirs >= _EQUAL and round(ours * group.sampled) > _FEW_EQUAL:
        return UnlikeVectors(**vars(group), figure="equal_share", rest=theirs)
    if group.dead_dimensions:
        return UnlikeVectors(**vars(group), figure="dead_dimensions", rest=0.0)
    if group.centroid_cosine is None or len(cosines) < _FEW_GROUPS:
        return None
    usual = float(np.median(cosines))
    deviation = _TO_DEVIATION * float(np.median(np.abs(np.array(cosines) - usual)))
    if usual - group.centroid_cosine < max(_FAR, _DEVIATIONS * deviation):
        return None
    return UnlikeVectors(**vars(group), figure="centroid_cosine", rest=usual)


def _findings(figures: VectorGroupFigures, facts: Facts) -> Iterator[Finding]:
    for column in figures.vector_groups:
        for group in column.worst[:_FINDINGS_OF_COLUMN]:
            value = "null" if group.value is None else repr(group.value)
            of = f"{column.column} {value} ({noun(group.rows, 'row')})"
            yield Finding(level="warning", text=f"The vectors of {of} {_said(group)}")


def _said(group: UnlikeVectors) -> str:
    if group.figure == "unusable_share":
        return (
            f"are unlike the others: {percent(group.unusable_share)} are not finite, zero or of "
            f"another length than 1, {percent(group.rest)} of all others."
        )
    if group.figure == "equal_share":
        return (
            f"do not tell its texts from one another: of {noun(group.sampled, 'sampled text')} "
            f"{percent(group.equal_share or 0)} have exactly the vector of another text, "
            f"{percent(group.rest)} of all others. Texts that differ beyond what the model sees "
            "do; of any other texts it is a fault."
        )
    if group.figure == "dead_dimensions":
        return (
            f"have {noun(group.dead_dimensions or 0, 'dimension')} that the others use and that "
            f"{'is' if group.dead_dimensions == 1 else 'are'} the same, or all but so, in all "
            f"{count(group.sampled)} of its sampled texts. Weights that were lost look like that."
        )
    ours = significant(getattr(group, group.figure), 2)
    rest = significant(group.rest, 2)
    if group.figure == "mean_cosine":
        return (
            f"are all but equal: their mean cosine is {ours}, that of all others {rest}. Are its "
            "texts all alike, or cut to the same beginning?"
        )
    return (
        f"lie elsewhere than the others: their mean cosine to the mean of all is {ours}, where "
        f"{rest} is usual here. Is it of another language or model, or no text?"
    )


SECTION = Section(
    __file__,
    Nothing,
    _figures,
    _findings,
    columns=("embedding",),
    applies=lambda facts: facts.has_examined_vectors,
)
