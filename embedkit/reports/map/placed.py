"""Places of rows on a plane, so that alike ones are near each other."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.map import tsne
from embedkit.reports.map.components import (
    Places,
    axes_of_rows,
    extent,
    in_one_place,
    principal_axes,
    turned,
)

Method = Literal["pca", "t-sne"]

FEWEST_FOR_TSNE = 2000
"""Rows below which there is no t-SNE: their principal components are as good, and at once there."""

_LEAST_KNOWN = 3
_FEW_KNOWN = 0.5
_MOST_BESIDE = 0.1
"""Share of rows that are put beside others before all of them are moved."""


@dataclass(frozen=True, eq=False)
class EarlierPlaces:
    """Where rows are on an earlier map that was made by the same method.

    Attributes:
        places: Their places, NaN of those that it lacks.
        beside: Share of rows that were put beside others since all of them were moved.
    """

    places: Places
    beside: float = 0.0


@dataclass(frozen=True, eq=False)
class Placed:
    """Where rows are on a map.

    Attributes:
        places: Their places.
        explained: Shares of the variance that the first two principal components have.
        moved: How far rows that an earlier map has moved on average, as a share of the ``extent``;
            None where there is no such map.
        beside: As of ``EarlierPlaces``.
    """

    places: Places
    explained: tuple[float, float]
    moved: float | None = None
    beside: float = 0.0


def method_for(rows: int) -> Method:
    """Returns how so many rows are placed with what is installed."""
    return "t-sne" if rows >= FEWEST_FOR_TSNE and tsne.is_installed() else "pca"


def place_rows(
    units: NDArray[np.float32],
    method: Method,
    earlier: EarlierPlaces | None = None,
    covariance: NDArray[np.float64] | None = None,
) -> Placed:
    """Places rows on a plane.

    A map by t-SNE goes on from an earlier one that has most of the rows: those stay where they
    are, and the others are put beside them, until these are so many that all of them are moved a
    little. A new map is turned to one that has some of the rows.

    Args:
        units: Vectors of length 1, float32, shape (n, d), n > 0, in an order that says nothing of
            them.
        method: What ``method_for`` said.
        earlier: Where they are on an earlier map.
        covariance: Of these vectors, or of those that they were drawn from, shape (d, d); None
            where d is too large for it.
    """
    axes, explained = axes_of_rows(units) if covariance is None else principal_axes(covariance)
    known = np.zeros(len(units), np.bool_)
    if earlier is not None:
        known = np.asarray(np.isfinite(earlier.places).all(axis=1), np.bool_)
        if known.sum() < _LEAST_KNOWN or in_one_place(earlier.places[known]):
            earlier = None
    if method == "t-sne" and earlier is not None and known.mean() >= _FEW_KNOWN:
        places, beside = _onward(units, earlier, known)
    else:
        middle = units.mean(axis=0, dtype=np.float64)
        # Rounded, so that the order in which a product adds does not end in another map.
        places, beside = np.round(units.astype(np.float64) @ axes - middle @ axes, 6), 0.0
        if method == "t-sne":
            places = tsne.lay_out(units, places)
        if earlier is not None:
            places = turned(places, earlier.places, known)
    how_far = None if earlier is None else moved(places[known], earlier.places[known])
    return Placed(places, explained, how_far, beside)


def _onward(
    units: NDArray[np.float32], earlier: EarlierPlaces, known: NDArray[np.bool_]
) -> tuple[Places, float]:
    if known.all():
        return earlier.places, earlier.beside
    places = tsne.put_beside(units, earlier.places, known)
    beside = round(earlier.beside + 1 - float(known.mean()), 4)
    return (places, beside) if beside <= _MOST_BESIDE else (tsne.go_on(units, places), 0.0)


def moved(places: Places, earlier: Places) -> float:
    """Returns how far rows moved on average, as a share of the map's extent."""
    size = extent(places)
    apart = float(np.linalg.norm(places - earlier, axis=1).mean())
    return round(apart / size, 4) if size > 0 else 0.0
