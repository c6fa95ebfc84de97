"""Points on a plane, with names or in groups."""

from collections.abc import Sequence

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    HoverTool,
    Label,
    LinearAxis,
    PlainText,
    Plot,
    Range1d,
    Scatter,
    Span,
)
from numpy.typing import NDArray

from embedkit.reports.phrasing import plain, significant
from embedkit.reports.plots.colours import GROUPS, MAIN
from embedkit.reports.plots.label_places import axis_range, label_places

HEIGHT = 520
_LONGEST = 30
_LONGEST_TOLD = 500
_ALIGNMENTS = {"start": "left", "end": "right", "middle": "center"}


def named_points(names: Sequence[str], points: NDArray[np.float64], axes: tuple[str, str]) -> Plot:
    """Makes a plot of points with their names; the two directions have scales of their own.

    Args:
        names: A name per point.
        points: Their places, shape (points, 2).
        axes: What the horizontal and the vertical direction are.
    """
    plot = _plane(points)
    for axis, (side, dimension) in zip(axes, (("below", "height"), ("left", "width")), strict=True):
        plot.add_layout(LinearAxis(axis_label=axis), side)
        plot.add_layout(Span(location=0, dimension=dimension))
    shown = [plain(name, _LONGEST) for name in names]
    places = label_places(shown, points)
    source = ColumnDataSource(
        {
            "x": points[:, 0],
            "y": points[:, 1],
            "told": [
                f"{plain(name, 200)}: {significant(float(x))}, {significant(float(y))}"
                for name, (x, y) in zip(names, points, strict=True)
            ],
        }
    )
    dots = plot.add_glyph(source, Scatter(size=8, fill_color=MAIN, line_color=None))
    for name, (x, y), (right, lower, anchor) in zip(shown, points.tolist(), places, strict=True):
        # Plain, as a text between dollars is taken for a formula else. Labels have a colour of the
        # page's style each, which a glyph of all of them has not.
        label = Label(x=x, y=y, x_offset=right, y_offset=-lower, text=PlainText(text=name))
        label.text_align = _ALIGNMENTS[anchor]
        plot.add_layout(label)
    plot.add_tools(HoverTool(renderers=[dots], tooltips="@told"))
    return plot


def dots(told: Sequence[str], points: NDArray[np.float64], groups: NDArray[np.int64]) -> Plot:
    """Makes a plot of points without names, in a colour for each group of them.

    Args:
        told: What is told of each point by who points at it.
        points: Their places, shape (points, 2).
        groups: The group of each, from 0.
    """
    plot = _plane(points)
    source = ColumnDataSource(
        {
            "x": points[:, 0],
            "y": points[:, 1],
            "colour": [GROUPS[group % len(GROUPS)] for group in groups],
            "told": [plain(one, _LONGEST_TOLD) for one in told],
        }
    )
    drawn = plot.add_glyph(source, Scatter(size=9, fill_color="colour", line_color=None))
    plot.add_tools(HoverTool(renderers=[drawn], tooltips="@told"))
    return plot


def _plane(points: NDArray[np.float64]) -> Plot:
    return Plot(
        x_range=Range1d(*axis_range(points[:, 0])),
        y_range=Range1d(*axis_range(points[:, 1])),
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
    )
