"""The map of a version's rows."""

from typing import Any

import numpy as np
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    PanTool,
    Plot,
    Range1d,
    ResetTool,
    Scatter,
    TapTool,
    WheelZoomTool,
)
from numpy.typing import NDArray

from embedkit.reports.plots.colours import BACK
from embedkit.reports.plots.map_rows import MapRows

HEIGHT = 560
_MARGIN = 0.03


def map_plot(rows: MapRows) -> Plot:
    """Makes the plot of a map, whose script adds what is told of a row, the search and the list.

    Columns ``c0``, ``c1`` and so on hold the codes of the colourings.
    """
    plot = Plot(
        x_range=Range1d(*_ends(rows.x)),
        y_range=Range1d(*_ends(rows.y)),
        height=HEIGHT,
        sizing_mode="stretch_width",
        toolbar_location="above",
        lod_threshold=3000,
    )
    plot.toolbar.logo = None
    codes = {f"c{place}": one.codes for place, one in enumerate(rows.colourings)}
    source = ColumnDataSource({"x": rows.x, "y": rows.y, **codes}, name="map-rows")
    first = rows.colourings[0].colours
    colours = LinearColorMapper(palette=first, low=-0.5, high=len(first) - 0.5, name="map-colours")
    fill: Any = {"field": "c0", "transform": colours}
    size = 4 if len(rows.x) > 5000 else 6
    dots = plot.add_glyph(
        source,
        Scatter(size=size, fill_color=fill, line_color=None),
        nonselection_glyph=Scatter(size=size, fill_color=BACK, fill_alpha=0.15, line_color=None),
        hover_glyph=Scatter(size=size + 4, fill_color=fill, line_color=BACK),
        name="map-dots",
    )
    lasso = LassoSelectTool(continuous=False, name="map-lasso")
    plot.add_tools(
        lasso,
        TapTool(),
        PanTool(),
        BoxZoomTool(),
        WheelZoomTool(),
        ResetTool(),
        HoverTool(renderers=[dots], tooltips="", limit=1, name="map-hover"),
    )
    plot.toolbar.active_drag = lasso
    return plot


def map_values(rows: MapRows) -> dict[str, Any]:
    """Returns what the script of the map reads besides the plot."""
    return {
        "ids": rows.ids,
        "texts": rows.texts,
        "colourings": [
            {
                "name": one.name,
                "labels": one.labels,
                "counts": np.bincount(one.codes, minlength=len(one.labels)).tolist(),
                "colours": one.colours,
            }
            for one in rows.colourings
        ],
    }


def _ends(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = _MARGIN * (high - low) or 1.0
    return low - room, high + room
