"""Named points of a plane as inline SVG that keeps its text readable at any width."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from embedkit.reports.phrasing import plain, significant

_HEIGHT, _TOP, _FLOOR = 520, 20, 480
_MARGIN = 0.04
_LONGEST = 30
_LONGEST_LABEL = 500
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


def scatter_chart(
    label: str, names: Sequence[str], points: NDArray[np.float64], axes: tuple[str, str]
) -> Markup:
    """Draws points with their names.

    Horizontal places are percentages of the picture's width and vertical ones are pixels, so the
    two directions have scales of their own.

    Args:
        label: The whole picture in a sentence, for those who cannot see it.
        names: A name per point.
        points: Their places, shape (points, 2).
        axes: What the horizontal and the vertical direction are.

    Returns:
        An ``svg`` element, every text in it escaped.
    """
    across, down = _scaled(points)
    parts = [
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>').format(
            100 * float(_scaled_zero(points[:, 0])), _TOP, _FLOOR
        ),
        Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(
            _FLOOR - (_FLOOR - _TOP) * float(_scaled_zero(points[:, 1]))
        ),
    ]
    shown_names = [plain(name, _LONGEST) for name in names]
    places = label_places(shown_names, points)
    for name, shown, place, x, y, point in zip(
        names, shown_names, places, across, down, points, strict=True
    ):
        right, lower, anchor = place
        parts.append(
            Markup(
                '<g><title>{}: {}, {}</title><circle class="main" cx="{:.2f}%" cy="{:.1f}" r="4"/>'
                '<text class="name halo" x="{:.2f}%" y="{:.1f}" dx="{}" text-anchor="{}">{}</text>'
                "</g>"
            ).format(
                plain(name, 200),
                significant(float(point[0])),
                significant(float(point[1])),
                100 * x,
                y,
                100 * x,
                y + lower,
                right,
                anchor,
                shown,
            )
        )
    parts.append(
        Markup(
            '<text class="axis" x="50%" y="{}" text-anchor="middle">{}</text>'
            '<text class="axis" x="0" y="{}">{}</text>'
        ).format(_HEIGHT - 8, axes[0], _TOP - 8, axes[1])
    )
    return Markup('<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">').format(
        plain(label, _LONGEST_LABEL), _HEIGHT
    ) + Markup("").join([*parts, Markup("</svg>")])


def dots_chart(
    label: str,
    tooltips: Sequence[str],
    points: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> Markup:
    """Draws points without names, in a colour for each group of them.

    Args:
        label: The whole picture in a sentence, for those who cannot see it.
        tooltips: A sentence per point.
        points: Their places, shape (points, 2).
        groups: The group of each, from 0; its dots have the CSS class ``group-N``.

    Returns:
        An ``svg`` element, every text in it escaped.
    """
    across, down = _scaled(points)
    dots = [
        Markup(
            '<circle class="group-{}" cx="{:.2f}%" cy="{:.1f}" r="4.5"><title>{}</title></circle>'
        ).format(int(group), 100 * x, y, plain(tooltip, _LONGEST_LABEL))
        for tooltip, group, x, y in zip(tooltips, groups, across, down, strict=True)
    ]
    return Markup('<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">').format(
        plain(label, _LONGEST_LABEL), _HEIGHT
    ) + Markup("").join([*dots, Markup("</svg>")])


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return (low, high) if high > low else (low - 1, high + 1)


def _share(values: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = _range(of)
    room: NDArray[np.float64] = _MARGIN + (1 - 2 * _MARGIN) * (values - low) / (high - low)
    return room


def _scaled(points: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Returns shares of the width, and pixels from the top."""
    across = _share(points[:, 0], points[:, 0])
    down = _FLOOR - (_FLOOR - _TOP) * _share(points[:, 1], points[:, 1])
    return across.tolist(), down.tolist()


def _scaled_zero(values: NDArray[np.float64]) -> float:
    return float(_share(np.zeros(1), values)[0])


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
