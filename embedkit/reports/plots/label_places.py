"""Where the names of points on a plane stand."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_TOP, _FLOOR = 20, 480
_MARGIN = 0.04
_LETTERS_WIDE = 110
"""Letters that stand side by side in a picture of usual width, to tell which names overlap."""
_LINE = 14
_WIDE = 900
_DOT = 0.005
_PLACES: tuple[tuple[int, int, Literal["start", "end", "middle"]], ...] = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (0, -9, "middle"),
    (0, 19, "middle"),
)
"""Where a name may stand beside its point: pixels to the right and down, and its anchor."""


def axis_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Returns the ends of an axis that has room for values, and for zero."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    low, high = (low, high) if high > low else (low - 1, high + 1)
    room = (high - low) * _MARGIN / (1 - 2 * _MARGIN)
    return low - room, high + room


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = axis_range(values)
    shares: NDArray[np.float64] = (values - low) / (high - low)
    return shares


def _scaled(points: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Returns shares of the width, and pixels from the top."""
    down = _FLOOR - (_FLOOR - _TOP) * _shares(points[:, 1])
    return _shares(points[:, 0]).tolist(), down.tolist()


def label_places(
    names: Sequence[str], points: NDArray[np.float64]
) -> list[tuple[int, int, Literal["start", "end", "middle"]]]:
    """Chooses where each name stands beside its point, so that few overlap.

    Args:
        names: The names as they are shown.
        points: Their points, shape (names, 2).

    Returns:
        Of each the pixels to the right and down from its point, and its anchor.
    """
    across, down = _scaled(points)
    # The points themselves: none should lie under a name.
    taken = [(x - _DOT, x + _DOT, y) for x, y in zip(across, down, strict=True)]
    chosen = []
    for name, x, y in zip(names, across, down, strict=True):
        wide = len(name) / _LETTERS_WIDE
        choices = []
        for number, (right, lower, anchor) in enumerate(_PLACES):
            shift = {"start": 0.0, "end": -wide, "middle": -wide / 2}[anchor]
            start, line = x + right / _WIDE + shift, y + lower - 4
            overlaps = sum(
                start < end and first < start + wide and abs(line - other) < _LINE
                for first, end, other in taken
            )
            outside = start < 0 or start + wide > 1
            choices.append((overlaps + 10 * outside, number, (start, start + wide, line)))
        _, number, box = min(choices)
        taken.append(box)
        chosen.append(_PLACES[number])
    return chosen
