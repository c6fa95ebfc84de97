"""What is said of a version against another one, in figures."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from embedkit.reports.drift.classifier import domain_auc
from embedkit.reports.drift.distances import centroid_cosine, frechet
from embedkit.reports.drift.earlier import Earlier, RowChanges
from embedkit.reports.drift.mmd import discrepancy
from embedkit.reports.drift.overlap import neighbour_overlap
from embedkit.reports.drift.shifts import Shifts, cluster_shifts
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.vector_sample import SampledVectors

ALIKE = 0.999
"""Cosine of two vectors of one text below which they are not of one model; bfloat16 and float16
keep above it."""

_FOR_DISCREPANCY = 1000
_FOR_CLASSIFIER = 2000
"""Rows of each sample: what they cost must not grow with a version that hardly changes."""


def _none_measured() -> Shifts:
    return Shifts(False)


@dataclass(frozen=True)
class Drift:
    """A version against the one before.

    Attributes:
        version: The earlier version; None where there is none.
        why: Why figures are None; the neighbours are compared whatever the recipes are.
        same_recipe: Whether vectors of both are of one recipe.
        recipe_changes: What differs between the recipes.
        stored: How vectors are stored, of the earlier version and of the later one: codes are some
            way from what the model gave.
        rows: How many rows are not what they were.
        sampled_before: Rows of the earlier version's sample that have a direction.
        sampled: Of the later one's.
        unchanged: Rows of both samples with the same id and text.
        unchanged_mean_cosine: Mean cosine of their vectors before and now.
        unchanged_least_cosine: The least.
        unchanged_below: How many have one below ``ALIKE``.
        centroid_cosine: Of the mean directions of all rows.
        frechet: Squared Fréchet distance of all directions.
        variance: Of the earlier version's directions: 1 less the squared length of their mean.
        mmd: Squared maximum mean discrepancy of samples.
        mmd_p: Its p-value.
        auc: Area under the ROC curve of a classifier that is to tell both apart.
        common: Rows of both samples with the same id.
        neighbour_overlap: Share of the ten nearest among these that are the same.
        clusters: Which clusters grew, shrank or moved.
    """

    version: str | None
    why: str | None
    same_recipe: bool = False
    recipe_changes: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    rows: RowChanges = field(default_factory=RowChanges)
    sampled_before: int = 0
    sampled: int = 0
    unchanged: int | None = None
    unchanged_mean_cosine: float | None = None
    unchanged_least_cosine: float | None = None
    unchanged_below: int | None = None
    centroid_cosine: float | None = None
    frechet: float | None = None
    variance: float | None = None
    mmd: float | None = None
    mmd_p: float | None = None
    auc: float | None = None
    common: int = 0
    neighbour_overlap: float | None = None
    clusters: Shifts = field(default_factory=_none_measured)


def not_compared(version: str | None, why: str) -> Drift:
    """Returns what is said of a version that is not compared with the one before it."""
    rows = RowChanges(why=why)
    return Drift(version, why, rows=rows, clusters=Shifts(False, why))


def without_texts(drift: Drift) -> Drift:
    """Returns what is said of a version without a word of its texts."""
    changed = [replace(one, terms=[], examples=[]) for one in drift.clusters.changed]
    return replace(drift, clusters=replace(drift.clusters, changed=changed))


def measure_drift(earlier: Earlier, later: ExaminedRows | None) -> Drift:
    """Compares two versions.

    Args:
        earlier: The version that is compared with.
        later: What the rows of the other one say; None where they have not one vector each.
    """
    if earlier.examined is None or later is None:
        why = "vectors are compared where each row of both versions has exactly one"
        return replace(not_compared(earlier.version, why), rows=earlier.rows)
    before, now = earlier.examined.usable, later.usable
    fault = _why_not(earlier, before, now)
    figures: dict[str, Any] = {
        "stored": list(earlier.stored),
        "rows": earlier.rows,
        "sampled_before": len(before),
        "sampled": len(now),
        **_of_common(before, now, fault is None),
    }
    if fault is not None:
        changes = list(earlier.recipe_changes or ())
        figures |= {"recipe_changes": changes, "clusters": Shifts(False, fault)}
        return Drift(earlier.version, fault, **figures)
    figures |= _of_all(earlier.examined, later)
    figures |= _of_samples(before, now, earlier.examined, later)
    clusters = cluster_shifts(before, now)
    return Drift(earlier.version, None, same_recipe=True, clusters=clusters, **figures)


def _why_not(earlier: Earlier, before: SampledVectors, now: SampledVectors) -> str | None:
    """Says why vectors of two versions cannot be held against each other, if they cannot."""
    if earlier.recipe_changes is None:
        return "one of both versions does not say what its recipe is"
    if earlier.recipe_changes:
        return f"their vectors are of two recipes: {'; '.join(earlier.recipe_changes)}"
    if not len(before) or not len(now):
        return "one of both versions has no row with a direction"
    if before.vectors.shape[1] != now.vectors.shape[1]:
        return f"their vectors have {before.vectors.shape[1]} and {now.vectors.shape[1]} dimensions"
    return None


def _of_common(
    before: SampledVectors, now: SampledVectors, same_recipe: bool
) -> dict[str, float | None]:
    """Returns the figures of rows whose ids are in both samples."""
    _, one, two = np.intersect1d(before.keys, now.keys, return_indices=True)
    before, now = before.take(one), now.take(two)
    overlap = neighbour_overlap(before.vectors, now.vectors)
    figures = {"common": len(before), "neighbour_overlap": _rounded(overlap)}
    return figures | (_of_unchanged(before, now) if same_recipe else {})


def _of_unchanged(before: SampledVectors, now: SampledVectors) -> dict[str, float | None]:
    """Returns the figures of those of the same ids whose text is what it was."""
    same = before.texts == now.texts
    count = int(same.sum())
    if not count:
        return {"unchanged": 0, "unchanged_below": 0}
    others = np.flatnonzero(same & (before.vectors != now.vectors).any(axis=1))
    one, two = (side.vectors[others].astype(np.float64) for side in (before, now))
    lengths = np.sqrt(np.einsum("ij,ij->i", one, one) * np.einsum("ij,ij->i", two, two))
    # The others' vectors are the same to the last bit.
    cosines = np.ones(count)
    cosines[: len(others)] = np.round(np.einsum("ij,ij->i", one, two) / lengths, 6)
    return {
        "unchanged": count,
        "unchanged_mean_cosine": _rounded(cosines.mean()),
        "unchanged_least_cosine": _rounded(cosines.min()),
        "unchanged_below": int((cosines < ALIKE).sum()),
    }


def _of_all(earlier: ExaminedRows, later: ExaminedRows) -> dict[str, float | None]:
    """Returns the figures of all rows."""
    before, now = earlier.moments, later.moments
    return {
        "centroid_cosine": _rounded(centroid_cosine(before, now)),
        "frechet": _rounded(frechet(before, now)),
        "variance": _rounded(max(0.0, 1 - float(np.square(before.mean).sum()))),
    }


def _of_samples(
    before: SampledVectors, now: SampledVectors, earlier: ExaminedRows, later: ExaminedRows
) -> dict[str, float | None]:
    """Returns the figures of the rows with the least hashes of their ids."""
    few = [side.take(np.arange(min(len(side), _FOR_DISCREPANCY))).units for side in (before, now)]
    more = [side.take(np.arange(min(len(side), _FOR_CLASSIFIER))) for side in (before, now)]
    found = discrepancy(few[0], few[1])
    auc = domain_auc(
        (more[0].units, more[1].units),
        (more[0].texts, more[1].texts),
        earlier.moments + later.moments,
    )
    return {
        "mmd": _rounded(found.squared if found else None),
        "mmd_p": _rounded(found.p if found else None),
        "auc": _rounded(auc, 4),
    }


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(float(value), digits)
