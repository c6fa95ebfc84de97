"""Bar charts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    FixedTicker,
    Grid,
    HoverTool,
    Label,
    LinearAxis,
    NumeralTickFormatter,
    Plot,
    Quad,
    Range1d,
    Span,
)
from numpy.typing import NDArray

from embedkit.reports.plots.colours import BACK

HEIGHT = 250
_GAP = 0.12
_TOP, _TOP_WITH_MARK = 1.04, 1.18
"""The height of the frame in that of the highest bar; the label of a mark stands above the bars."""


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart.

    Attributes:
        colour: The colour of its bars.
        heights: One per bar, from 0.
        stacked: Whether its bars stand on those of the series before it.
        sheer: Whether what is behind its bars shows through them.
    """

    colour: str
    heights: Sequence[float]
    stacked: bool = False
    sheer: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A label of the horizontal axis, or a vertical mark over it.

    Attributes:
        place: In bars, from the left end of the first.
        label: What stands there.
    """

    place: float
    label: str


def bar_chart(
    series: Sequence[Series],
    told: Sequence[str],
    ticks: Sequence[Tick],
    axis: str,
    height_format: str,
    mark: Tick | None = None,
) -> Plot:
    """Makes a chart of bars of equal width.

    Args:
        series: What to draw, all of the same length.
        told: What is told of each bar by who points at it.
        ticks: Labels of the horizontal axis, from left to right.
        axis: What the horizontal axis is, with its unit.
        height_format: How heights are written, in the notation of Numbro.
        mark: A vertical line and its label.
    """
    highest = max(float(above.max(initial=0)) for _, above in _edges(series))
    top = (_TOP if mark is None else _TOP_WITH_MARK) * highest or 1.0
    plot = Plot(
        x_range=Range1d(0, max(1, len(told))),
        y_range=Range1d(0, top),
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location=None,
    )
    _add_axes(plot, ticks, axis, height_format)
    for one, (below, above) in zip(series, _edges(series), strict=True):
        _add_bars(plot, one, below, above)
    if mark is not None:
        _add_mark(plot, mark, top, len(told))
    _add_told(plot, told, top)
    return plot


def _edges(series: Sequence[Series]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Returns where the bars of each series begin and end."""
    edges = []
    above = np.zeros(len(series[0].heights))
    for one in series:
        below = above if one.stacked else np.zeros(len(one.heights))
        above = below + np.asarray(one.heights, dtype=np.float64)
        edges.append((below, above))
    return edges


def _add_axes(plot: Plot, ticks: Sequence[Tick], axis: str, height_format: str) -> None:
    across = LinearAxis(
        ticker=FixedTicker(ticks=[tick.place for tick in ticks]),
        major_label_overrides={tick.place: tick.label for tick in ticks},
        axis_label=axis,
    )
    up = LinearAxis(
        ticker=BasicTicker(desired_num_ticks=4, num_minor_ticks=0),
        formatter=NumeralTickFormatter(format=height_format),
    )
    plot.add_layout(across, "below")
    plot.add_layout(up, "left")
    plot.add_layout(Grid(dimension=1, ticker=up.ticker))


def _add_bars(
    plot: Plot, one: Series, below: NDArray[np.float64], above: NDArray[np.float64]
) -> None:
    drawn = np.flatnonzero(above > below)
    source = ColumnDataSource(
        {
            "left": drawn + _GAP / 2,
            "right": drawn + 1 - _GAP / 2,
            "bottom": below[drawn],
            "top": above[drawn],
        }
    )
    # The line keeps a bar in sight that is lower than a pixel.
    bars = Quad(
        fill_color=one.colour,
        fill_alpha=0.8 if one.sheer else 1.0,
        line_color=one.colour,
    )
    plot.add_glyph(source, bars)


def _add_mark(plot: Plot, mark: Tick, top: float, bars: int) -> None:
    leftwards = mark.place > bars / 2
    line = Span(location=mark.place, dimension="height", line_dash=[4, 3])
    name = Label(
        x=mark.place,
        y=top,
        x_offset=-6 if leftwards else 6,
        text=mark.label,
        text_align="right" if leftwards else "left",
        text_baseline="top",
    )
    plot.add_layout(line)
    plot.add_layout(name)


def _add_told(plot: Plot, told: Sequence[str], top: float) -> None:
    """Adds columns over the whole height that nobody sees, so that a low bar is found as well."""
    lefts = np.arange(len(told), dtype=np.float64)
    source = ColumnDataSource(
        {
            "left": lefts,
            "right": lefts + 1,
            "bottom": np.zeros(len(told)),
            "top": np.full(len(told), top),
            "told": list(told),
        }
    )
    column = Quad(fill_color=None, line_color=None)
    shade = Quad(fill_color=BACK, fill_alpha=0.2, line_color=None)
    columns = plot.add_glyph(source, column, hover_glyph=shade)
    plot.add_tools(HoverTool(renderers=[columns], tooltips="@told"))
