"""Words on a plane: a page in the style of the report, or a picture by matplotlib."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError
from embedkit.reports.phrasing import percent, plain
from embedkit.reports.plots.label_places import label_places
from embedkit.reports.render import render_page

_LOG = logging.getLogger("embedkit")
_INCHES = (9.0, 6.0)
_DOTS_PER_INCH = 150
_LONGEST = 30
_POINTS = 0.75
"""Points of a pixel, in which the places of names are."""

_ALIGNMENTS = {"start": "left", "end": "right", "middle": "center"}
_FONTS = ("DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei")
"""Asked for a character in this order, those that are installed."""


def words_page(
    source: str,
    words: Sequence[str],
    points: NDArray[np.float64],
    explained: tuple[float, float],
    similarities: NDArray[np.float64],
    dimension: int,
) -> str:
    """Renders a page of words on a plane that needs nothing else.

    Args:
        source: Where the words' vectors are.
        words: The words, two or more.
        points: Their places, shape (words, 2).
        explained: Shares of the variance that the two directions hold.
        similarities: The cosine of each with each, shape (words, words).
        dimension: Components of the whole vectors.
    """
    others = similarities.copy()
    np.fill_diagonal(others, np.nan)
    rows = [
        {
            "word": word,
            "most": words[most],
            "highest": similarities[number, most],
            "least": words[least],
            "lowest": similarities[number, least],
        }
        for number, (word, most, least) in enumerate(
            zip(words, np.nanargmax(others, axis=1), np.nanargmin(others, axis=1), strict=True)
        )
    ]
    title = ", ".join(words)
    # Bokeh is slow to import, and only a page needs it.
    from embedkit.reports.plots.points import named_points

    values: dict[str, Any] = {
        "title": title,
        "source": source,
        "words": words,
        "explained": explained,
        "dimension": dimension,
        "rows": rows,
        "plot": named_points(words, points, axes(explained)),
    }
    return render_page("words.html.jinja", values)


def axes(explained: tuple[float, float]) -> tuple[str, str]:
    """Returns what the two directions are called."""
    first, second = explained
    return (
        f"first direction, {percent(first)} of the variance",
        f"second direction, {percent(second)} of the variance",
    )


def words_plot(
    words: Sequence[str],
    points: NDArray[np.float64],
    explained: tuple[float, float],
    form: Literal["png", "svg"],
) -> bytes:
    """Draws words on a plane by matplotlib, without a display.

    In an SVG the words stay text, which whoever shows it has fonts for. In a PNG a character that
    no font here has is a box, and the log says so.

    Args:
        words: The words.
        points: Their places, shape (words, 2).
        explained: Shares of the variance that the two directions hold.
        form: The format.

    Returns:
        The content of the file.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            f"matplotlib is not installed, which draws a {form}; install the extra words of "
            "embedkit-batch, or name an .html file"
        )
    # It says that it builds a cache of fonts, and where, at the first use on a machine.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    with matplotlib.rc_context(), warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        # A matplotlibrc of the working directory may be anybody's, and have words run as TeX.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": [name for name in _FONTS if name in installed],
                "svg.fonttype": "none",
                "svg.hashsalt": "embedkit",
            }
        )
        content = _drawn(words, points, explained, form)
    missing = [one for one in found if "missing from font" in str(one.message)]
    if missing and form == "png":
        _LOG.warning(
            "%d characters are boxes in the picture, as no font here has them; an .svg or .html "
            "file keeps them",
            len({str(one.message) for one in missing}),
        )
    return content


def _drawn(
    words: Sequence[str], points: NDArray[np.float64], explained: tuple[float, float], form: str
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_PER_INCH, layout="tight")
    plot = figure.add_subplot()
    plot.axhline(0, color="#e1e5ea", linewidth=1, zorder=0)
    plot.axvline(0, color="#e1e5ea", linewidth=1, zorder=0)
    plot.scatter(points[:, 0], points[:, 1], s=24, color="#2f6fb5")
    names = [plain(word, _LONGEST) for word in words]
    places = label_places(names, points)
    for name, place, (right, lower, anchor) in zip(names, points.tolist(), places, strict=True):
        plot.annotate(
            name,
            place,
            (right * _POINTS, -lower * _POINTS),
            textcoords="offset points",
            horizontalalignment=_ALIGNMENTS[anchor],
            parse_math=False,
        )
    across, up = axes(explained)
    plot.set_xlabel(across, color="#5b6675")
    plot.set_ylabel(up, color="#5b6675")
    plot.spines[["top", "right"]].set_visible(False)
    plot.margins(0.12)
    content = io.BytesIO()
    figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()
