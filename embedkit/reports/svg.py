"""One bar chart as inline SVG that keeps its text readable at any width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_TOP, _FLOOR, _HEIGHT = 26, 196, 240
_GAP = 0.12


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart.

    Attributes:
        name: What the legend calls it.
        style: CSS class of its bars.
        heights: One per bar, from 0.
        stacked: Whether its bars stand on those of the series before it.
    """

    name: str
    style: str
    heights: Sequence[float]
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the horizontal axis, or a vertical mark over it.

    Attributes:
        place: From 0 (left) to 1 (right).
        label: What stands there.
    """

    place: float
    label: str


def bar_chart(
    label: str,
    series: Sequence[Series],
    tooltips: Sequence[str],
    ticks: Sequence[Tick],
    axis: str,
    height_label: Callable[[float], str],
    mark: Tick | None = None,
) -> Markup:
    """Draws bars of equal width.

    Horizontal places are percentages of the picture's width and vertical ones are pixels, so the
    picture stretches with the page while its text keeps its size.

    Args:
        label: The whole chart in a sentence, for those who cannot see it.
        series: What to draw, all of the same length.
        tooltips: A sentence per bar.
        ticks: Labels of the horizontal axis, from left to right.
        axis: What the horizontal axis is, with its unit.
        height_label: Writes a height, for the vertical axis.
        mark: A vertical line and its label.

    Returns:
        An ``svg`` element, every text in it escaped.
    """
    top, step = _scale(series)
    parts = [_grid(top, step, height_label), *_bars(series, top)]
    if mark is not None:
        parts.append(_mark(mark))
    parts += [_ticks(ticks), _axis(axis), _tooltips(tooltips)]
    return Markup('<svg class="chart" role="img" aria-label="{}" width="100%" height="{}">').format(
        label, _HEIGHT
    ) + Markup("").join([*parts, Markup("</svg>")])


def _scale(series: Sequence[Series]) -> tuple[float, float]:
    """Height of the whole picture and of a step of its grid, both round numbers."""
    highest = 0.0
    below: Sequence[float] = ()
    for one in series:
        base = below if one.stacked else [0.0] * len(one.heights)
        below = [low + high for low, high in zip(base, one.heights, strict=True)]
        highest = max(highest, *below, 0.0)
    if highest <= 0:
        return 1.0, 1.0
    rough = highest / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * nice for nice in (1, 2, 5, 10) if unit * nice >= rough)
    return max(highest * 1.04, step), step


def _y(height: float, top: float) -> float:
    return round(_FLOOR - (_FLOOR - _TOP) * height / top, 2)


def _grid(top: float, step: float, height_label: Callable[[float], str]) -> Markup:
    lines = []
    for number in range(1, int(top / step + 1e-9) + 1):
        y = _y(number * step, top)
        lines.append(
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
                '<text class="tick halo" x="0" y="{1}">{2}</text>'
            ).format(y, y - 4, height_label(number * step))
        )
    return Markup("").join(lines)


def _bars(series: Sequence[Series], top: float) -> list[Markup]:
    drawn = []
    below: Sequence[float] = ()
    for one in series:
        base = below if one.stacked else [0.0] * len(one.heights)
        below = [low + high for low, high in zip(base, one.heights, strict=True)]
        width = 100 / max(1, len(one.heights))
        rects = [
            Markup('<rect x="{:.3f}%" width="{:.3f}%" y="{}" height="{}"/>').format(
                width * (place + _GAP / 2),
                width * (1 - _GAP),
                min(_y(high, top), _y(low, top) - 1),
                max(1, round(_y(low, top) - _y(high, top), 2)),
            )
            for place, (low, high) in enumerate(zip(base, below, strict=True))
            if high > low
        ]
        drawn.append(
            Markup('<g class="{}">').format(one.style) + Markup("").join(rects) + Markup("</g>")
        )
    return drawn


def _ticks(ticks: Sequence[Tick]) -> Markup:
    labels = [
        Markup('<text class="tick{}" x="{:.3f}%" y="{}" text-anchor="{}">{}</text>').format(
            " minor" if number % 2 else "",
            100 * tick.place,
            _FLOOR + 17,
            _anchor(tick.place),
            tick.label,
        )
        for number, tick in enumerate(ticks)
    ]
    floor = Markup('<line class="floor" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(_FLOOR)
    return floor + Markup("").join(labels)


def _mark(mark: Tick) -> Markup:
    place = f"{100 * mark.place:.3f}%"
    leftwards = mark.place > 0.5
    return Markup(
        '<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
        '<text class="mark halo" x="{0}" dx="{3}" y="{4}" text-anchor="{5}">{6}</text>'
    ).format(
        place,
        _TOP - 16,
        _FLOOR,
        -6 if leftwards else 6,
        _TOP - 8,
        "end" if leftwards else "start",
        mark.label,
    )


def _axis(axis: str) -> Markup:
    return Markup('<text class="axis" x="50%" y="{}" text-anchor="middle">{}</text>').format(
        _HEIGHT - 6, axis
    )


def _tooltips(tooltips: Sequence[str]) -> Markup:
    """Columns over the whole height that nobody sees, so that a short bar is found as well."""
    width = 100 / max(1, len(tooltips))
    columns = "".join(
        f'<rect x="{width * place:.3f}%" width="{width:.3f}%" y="{_TOP}" '
        f'height="{_FLOOR - _TOP}"><title>{escape(tooltip)}</title></rect>'
        for place, tooltip in enumerate(tooltips)
    )
    return Markup('<g class="tips">') + Markup(columns) + Markup("</g>")


def _anchor(place: float) -> str:
    if place < 0.02:
        return "start"
    return "end" if place > 0.98 else "middle"
